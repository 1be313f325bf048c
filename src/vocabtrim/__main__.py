"""`python -m vocabtrim`: the command line without its console script.

For environments whose scripts are not on PATH. It starts the same `main`, in
the interpreter that was named, and nothing else is here.
"""

from vocabtrim.cli.main import main

if __name__ == "__main__":
    main()
