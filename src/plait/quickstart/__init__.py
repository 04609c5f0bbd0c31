"""``plait quickstart``: the whole way in one command. ``chain.py`` does it, ``report.py`` tells how it went."""
