"""The image towers: formula, initialisation, frozen and fine-tuned networks, the three modes."""

from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hardneg.encoders import FeatureEncoder, ImageEncoder


def tiny_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
    )


def tiny_encoder(**options) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(tiny_network(), 4, feature_dim=5, **options)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_feature_encoder_is_its_formula(normalize: bool, absolute: bool) -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(6, 4, normalize=normalize, absolute=absolute)
    features = torch.randn(3, 6)
    expected = features @ encoder.fc.weight.T + encoder.fc.bias
    expected = F.normalize(expected, dim=1) if normalize else expected
    torch.testing.assert_close(encoder(features), expected.abs() if absolute else expected)


def test_projection_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    layer = FeatureEncoder(300, 200).fc
    bound = (6 / 500) ** 0.5
    assert (layer.bias == 0).all()
    assert bound * 0.99 < layer.weight.abs().max().item() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_regions_are_projected_then_pooled() -> None:
    encoder = FeatureEncoder(6, 4, pooling="max")
    regions = torch.randn(3, 7, 6)
    expected = F.normalize(encoder.fc(regions).amax(1), dim=1)
    torch.testing.assert_close(encoder(regions), expected)


def test_feature_drop_leaves_regions_out_in_training_only() -> None:
    torch.manual_seed(0)
    encoder = FeatureEncoder(6, 4, feature_drop=0.9)
    regions = torch.randn(40, 7, 6)
    whole = encoder.eval()(regions)
    thinned = encoder.train()(regions)
    assert torch.isfinite(thinned).all()
    assert not torch.allclose(thinned, whole)
    torch.testing.assert_close(encoder.eval()(regions), whole)


def test_image_encoder_is_its_formula_and_averages_crops() -> None:
    encoder = tiny_encoder().eval()
    crops = torch.rand(2, 3, 3, 9, 9)
    outputs = torch.stack([encoder.cnn(crops[i]).mean(0) for i in range(2)])
    expected = F.normalize(encoder.fc(F.normalize(outputs, dim=1)), dim=1)
    torch.testing.assert_close(encoder(crops), expected)
    torch.testing.assert_close(encoder(crops[:, 0]), encoder(crops[:, :1]))


@pytest.mark.parametrize("finetune", [False, True])
def test_only_a_fine_tuned_network_gets_gradients(finetune: bool) -> None:
    encoder = tiny_encoder(finetune=finetune)
    encoder(torch.rand(2, 3, 9, 9)).square().sum().backward()
    assert encoder.fc.weight.grad is not None
    touched = [one.grad is not None for one in encoder.cnn.parameters()]
    assert all(touched) if finetune else not any(touched)
    assert all(one.requires_grad is finetune for one in encoder.cnn.parameters())


def test_cnn_modes_differ_as_documented() -> None:
    story = {
        "eval": [False, False, False],
        "train": [True, True, True],
        "legacy": [True, False, True],
    }
    for mode, expected in story.items():
        encoder = tiny_encoder(cnn_mode=mode)
        encoder.start_epoch()
        seen = [encoder.cnn.training]
        encoder.eval()
        assert not encoder.cnn.training
        encoder.after_validation()
        seen.append(encoder.cnn.training)
        encoder.start_epoch()
        seen.append(encoder.cnn.training)
        assert seen == expected, mode
        assert encoder.training


def test_eval_mode_keeps_running_statistics() -> None:
    encoder = tiny_encoder(finetune=True)
    before = encoder.cnn[1].running_mean.clone()
    encoder.train()(torch.rand(4, 3, 9, 9))
    assert torch.equal(encoder.cnn[1].running_mean, before)


@pytest.mark.parametrize(
    ("name", "width"), [("vgg11", 4096), ("resnet18", 512), ("mobilenet_v3_small", 1024)]
)
def test_torchvision_networks_lose_their_last_layer(name: str, width: int) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    encoder = ImageEncoder(name, 4, weights=None)
    assert encoder.fc.in_features == width
    with torch.inference_mode():
        assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 4)


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="unknown cnn_mode 'frozen': choose one of eval"):
        tiny_encoder(cnn_mode="frozen")
    with pytest.raises(ValueError, match="feature_dim is missing"):
        ImageEncoder(tiny_network(), 4)
    with pytest.raises(ValueError, match=r"features are \(2, 5\): expected \(n, 6\)"):
        FeatureEncoder(6, 4)(torch.rand(2, 5))
    with pytest.raises(ValueError, match=r"images are \(3, 9, 9\)"):
        tiny_encoder()(torch.rand(3, 9, 9))


def test_unknown_networks_and_weights_are_refused_with_the_known_ones(monkeypatch) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ValueError, match=r"no network 'resnet125': choose .*resnet152"):
        ImageEncoder("resnet125", weights=None)
    with pytest.raises(ValueError, match="resnet18 has no weights 'V1': choose one of IMAGENET1K"):
        ImageEncoder("resnet18", weights="V1")

    def offline(*given, **options) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "absent/folder")
    monkeypatch.setattr("os.makedirs", lambda *given, **options: None)
    with pytest.raises(ConnectionError, match="weights IMAGENET1K_V1 of resnet18 cannot be"):
        ImageEncoder("resnet18")


def test_a_network_without_a_linear_head_is_refused() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ValueError, match="squeezenet1_1 has no linear head"):
        ImageEncoder("squeezenet1_1", weights=None)
