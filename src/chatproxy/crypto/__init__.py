"""Keys, sealed records and everything that is authenticated: bytes in, bytes out (docs/record-format.md).

No I/O, no clock: instants and randomness are arguments. ``primitives`` is the only module of chatproxy that
touches cryptographic primitives; nothing here tries a second key when the first does not fit.
"""
