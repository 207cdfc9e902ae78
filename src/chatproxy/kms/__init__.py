"""Where the root comes from: providers of the ``RootKey`` port."""
