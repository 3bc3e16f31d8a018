"""Entropy coding: adaptive binary arithmetic coding, and what learned codecs share."""
