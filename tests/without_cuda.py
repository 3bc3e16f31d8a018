"""Exit 1 when torch is not installed or asks for CUDA packages; `make setup` looks before it installs the rest."""

import sys
from importlib.metadata import PackageNotFoundError, requires


def asks_for_cuda(requirements):
    """Whether a requirement is one of NVIDIA's packages, on this or any system."""
    return any(text.lower().startswith(("nvidia", "cuda")) for text in requirements or ())


def main():
    """The exit code; on macOS torch is not there yet, and has no CUDA."""
    if sys.platform == "darwin":
        return 0
    try:
        return int(asks_for_cuda(requires("torch")))
    except PackageNotFoundError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
