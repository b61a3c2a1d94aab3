"""``python -m dastc`` does what the command ``dastc`` does."""

from dastc.commands import main

if __name__ == "__main__":
    main()
