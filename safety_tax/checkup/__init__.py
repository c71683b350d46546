"""What a run needs, and what this machine, the Hub and the cache have: the parts of `safety-tax doctor`."""
