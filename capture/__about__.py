"""The version both packages stamp into what they write."""

VERSION = "0.1.0"
