"""PreprocessSpec and ModelSpec: defaults, refusals, JSON and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.reid.spec import ModelSpec, PreprocessSpec

SPECS = st.builds(
    PreprocessSpec,
    size=st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
    fit=st.sampled_from(["squash", "pad"]),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    mean=st.tuples(*[st.floats(-10, 10)] * 3),
    std=st.tuples(*[st.floats(1e-3, 10)] * 3),
    alpha=st.sampled_from(["composite", "ignore"]),
    background=st.tuples(*[st.integers(0, 255)] * 3),
    jpeg_draft=st.booleans(),
)


def test_defaults_are_imagenet_on_white() -> None:
    assert json.loads(PreprocessSpec().model_dump_json()) == {
        "size": [224, 224],
        "fit": "squash",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "alpha": "composite",
        "background": [255, 255, 255],
        "jpeg_draft": True,
    }
    assert ModelSpec().model_dump() == {"backbone": "convnext_atto", "pooling": "avg", "embedding_dim": 512}


@given(SPECS)
def test_json_and_back_changes_nothing(spec: PreprocessSpec) -> None:
    again = PreprocessSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert PreprocessSpec.model_validate_json(spec.model_dump_json(), strict=True) == spec
    assert hash(again) == hash(spec)


def test_one_number_is_a_square_and_two_are_height_and_width() -> None:
    assert PreprocessSpec.model_validate({"size": 384}).size == (384, 384)
    assert PreprocessSpec.model_validate({"size": [192, 384]}).size == (192, 384)
    assert PreprocessSpec.model_validate_json('{"size": 384}', strict=True).size == (384, 384)


@pytest.mark.parametrize(
    "values",
    [
        {"size": 15},
        {"size": 4097},
        {"size": [224]},
        {"size": [224, 224, 3]},
        {"size": True},
        {"size": "large"},
        {"fit": "crop"},
        {"interpolation": "nearest"},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, float("nan")]},
        {"std": [0.5, 0.5, 0.0]},
        {"std": [0.5, 0.5, float("inf")]},
        {"alpha": "drop"},
        {"background": [0, 0, 256]},
        {"background": [-1, 0, 0]},
        {"background": [0, 0]},
        {"jpeg_draft": "perhaps"},
        {"colour": "rgb"},
    ],
)
def test_values_that_no_picture_can_have_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PreprocessSpec.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [{"backbone": ""}, {"pooling": "max"}, {"embedding_dim": 0}, {"embedding_dim": 65_537}, {"head": "arcface"}],
)
def test_networks_that_cannot_be_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(values)


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PreprocessSpec().fit = "pad"  # type: ignore[misc]
