"""Datasets: what a training set is made of, as values. Pure: the walk, the keys and the files are workflows'."""
