"""The engines that train the runs of a search: this process, worker processes or a Ray cluster."""
