"""The commands of `manage.py`: their names begin with `tallybook_`."""
