"""What all formats are held to."""

import pytest
from hypothesis import strategies as st

from pccbench.codecs.errors import CloudError
from pccbench.codecs.formats import read_cloud


@pytest.fixture
def refuses(tmp_path):
    """Assert that a file is refused in one line that names it."""

    def check(name, content, message):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CloudError, match=message) as raised:
            read_cloud(path)
        assert str(raised.value).startswith(str(path))
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 500 + len(str(path))

    return check


@pytest.fixture(scope="session")
def survives():
    """Assert that damaged content is refused or read, never worse."""

    def check(draw, reader, content):
        whole = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
        for damaged in (bytes(whole), bytes(whole[: draw(st.integers(0, len(whole)))])):
            try:
                reader(damaged).cloud("auto", None, None)
            except CloudError:
                pass

    return check
