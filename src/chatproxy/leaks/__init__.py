"""Does anything of what people say stay readable where it should not? What `chatproxy leaktest` is made of."""
