"""What safety costs when language models are merged: the library behind the stages and the command `safety-tax`."""
