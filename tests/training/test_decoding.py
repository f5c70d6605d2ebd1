"""The bars of decoding, measured by `benchmarks/decoding.py`."""

from pathlib import Path

import pytest

from benchmarks.decoding import BAR_DISTANCE, BAR_LARGE, enlarged, measure, photographs, plain_decoder
from training.image_embedding import ImageEmbedder
from training.preprocess import decode_image

BAR_PHOTOGRAPHS = 0.6  # about 0.31 on a quiet machine


@pytest.mark.timing
@pytest.mark.parametrize(
    ("name", "bar"), [("photographs", BAR_PHOTOGRAPHS), ("12 MP", BAR_LARGE)], ids=["photographs", "12 MP"]
)
def test_decoding_takes_a_fraction_of_the_plain_way(
    name: str, bar: float, data_root: Path, lite0_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = photographs(data_root, 20)
    if name != "photographs":
        inputs = [enlarged(inputs[0], quality=92, subsampling=2)]
    embedder = ImageEmbedder.load(lite0_folder)
    spec, dim = embedder.manifest.preprocess, embedder.manifest.output.dim
    found = measure(
        name,
        inputs,
        lambda data: decode_image(data, spec),
        plain_decoder(spec),
        {},
        lambda pixels: embedder.embed(pixels)[:dim],
        rounds=3,
    )
    with capsys.disabled():
        print(f"\n{name}: {found.ratio:.3f} of plain Pillow, distance {found.distance:.1e}")
    assert found.ratio <= bar
    assert found.distance <= BAR_DISTANCE
