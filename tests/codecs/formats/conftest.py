"""What all formats are held to."""

import pytest

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
        assert "\n" not in str(raised.value)

    return check
