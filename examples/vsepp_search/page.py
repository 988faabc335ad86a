"""The page itself, by gradio: nothing leaves this machine, and no file is served."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from vsepp.errors import InputError
from vsepp_search.answers import LONGEST, Answers
from vsepp_search.arguments import MOST_SHOWN, Search
from vsepp_search.opened import indexes

HERE = Path(__file__).parent
SHOWN = 12
SCROLL = "() => document.querySelector('#detail').scrollIntoView({behavior: 'smooth'})"


def gradio() -> Any:
    """gradio, told to stay at home before it is imported."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        return importlib.import_module("gradio")
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ModuleNotFoundError(
            "the page needs gradio: pip install -e '.[search]' in the checkout; --atlas does without"
        ) from error


def serve(asked: Search) -> None:
    """Show the page until Ctrl-C."""
    gradio()
    page = build(Answers(indexes(asked)))
    launch(page, asked.host, asked.port)
    print(f"the page is at {page.local_url} (Ctrl-C stops it)", flush=True)
    page.block_thread()


def build(answers: Answers) -> Any:
    """The page as gradio's blocks; every event is one of two functions, which its API has too."""
    gr = gradio()
    with gr.Blocks(title=f"Search: {answers.title()}", analytics_enabled=False) as page:
        gr.HTML(answers.cards.page("head.html.j2", answers=answers))
        with gr.Row(equal_height=True):
            text = gr.Textbox(label="Sentence", max_length=LONGEST, scale=4, min_width=320, elem_id="sentence",
                              placeholder=answers.examples()[0])  # fmt: skip
            count = gr.Slider(
                1, MOST_SHOWN, SHOWN, step=1, label="How many", scale=1, min_width=240
            )
        go = gr.Button("Search", variant="primary", elem_id="go")
        gr.Examples([[one] for one in answers.examples()], text, label="Captions of the split",
                    elem_id="examples")  # fmt: skip
        results = gr.HTML(elem_id="results", show_label=False)
        chosen = gr.Textbox(elem_id="look", show_label=False, container=False)
        detail = gr.HTML(elem_id="detail", show_label=False)
        one_at_a_time = {"concurrency_id": "model", "concurrency_limit": 1}
        find, look = told(gr, answers.find), told(gr, answers.look)
        gr.on([go.click, text.submit], find, [text, count], results, api_name="find",
              **one_at_a_time)  # fmt: skip
        shown = chosen.change(look, [chosen, count], detail, api_name="look", **one_at_a_time)
        shown.success(None, js=SCROLL)
    return page


def told(gr: Any, answer: Any) -> Any:
    """A function whose refusals are shown on the page; of other errors nothing is told but in the terminal."""

    def answered(asked: str, count: float) -> str:
        try:
            return str(answer(asked, count))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return answered


def launch(page: Any, host: str, port: int) -> None:
    """Serve it: no public link, no fonts or scripts of others, no folder of files, no uploads worth the name."""
    gr = gradio()
    plain = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    page.queue(max_size=64).launch(
        server_name=host,
        server_port=port or None,
        share=False,
        quiet=True,  # it would offer a public link
        prevent_thread_lock=True,
        inbrowser=False,
        show_error=False,
        footer_links=[],
        allowed_paths=[],
        max_file_size=1,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=plain,
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        js=(HERE / "page.js").read_text(encoding="utf-8"),
    )
