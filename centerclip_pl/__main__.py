"""``python -m centerclip_pl``: see `centerclip_pl.cli`."""

from centerclip_pl.cli import main

if __name__ == "__main__":
    main()
