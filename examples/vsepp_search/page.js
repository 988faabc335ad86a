() => {
  // A card or a caption tells the server which row it is of, through a text box that is not shown.
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-look]");
    const box = document.querySelector("#look textarea, #look input");
    if (!chosen || !box) return;
    box.value = `${chosen.dataset.look} ${Date.now()}`;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  });
}
