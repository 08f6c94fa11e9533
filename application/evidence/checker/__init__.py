"""The program check.py of an evidence pack, in parts: `assemble` in `program_text.py` makes it one file.

The parts run on Python 3.8 and import the standard library and each other, nothing else of ours.
"""
