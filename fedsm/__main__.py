"""``python -m fedsm``."""

from fedsm.cli import main

main()
