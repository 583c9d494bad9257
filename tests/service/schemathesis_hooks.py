"""What schemathesis cannot make up by itself: photos. Named by SCHEMATHESIS_HOOKS."""

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _photo(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, kind)
    return buffer.getvalue()


for _kind in ("jpeg", "png", "webp"):
    schemathesis.openapi.media_type(f"image/{_kind}", st.just(_photo(_kind)))
