"""`python -m pccbench` is `bench`."""

from .bench.entry import main

if __name__ == "__main__":
    main()
