"""Judges: functions from a response to one of four labels. One judge a file, named as in `params.yaml`."""
