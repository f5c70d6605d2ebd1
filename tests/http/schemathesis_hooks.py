"""What Schemathesis cannot invent: inputs that are images. Loaded by it, not by pytest."""

import base64
import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _image(colour: tuple[int, int, int], kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 24), colour).save(stream, kind)
    return stream.getvalue()


images = st.builds(_image, st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from(["PNG", "JPEG", "WEBP"]))
binary = st.one_of(images, images, st.binary(max_size=200))
encoded = images.map(lambda data: base64.b64encode(data).decode())

schemathesis.openapi.format("binary", binary)
schemathesis.openapi.format("image-input", st.one_of(encoded, encoded, st.text(max_size=40)))
for media_type in ("application/octet-stream", "image/*", "application/zip"):
    schemathesis.openapi.media_type(media_type, binary)
