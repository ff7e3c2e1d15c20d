"""MONAI without its reach for the network: requests, which it imports, tries out a socket of IPv6."""

import importlib
import socket
import sys


def offline_monai() -> None:
    """Import MONAI without a socket being opened. Must come before anything else imports it."""
    if "monai" in sys.modules:
        return
    has_ipv6, socket.has_ipv6 = socket.has_ipv6, False  # whoever is told so tries nothing out
    try:
        importlib.import_module("monai")
    finally:
        socket.has_ipv6 = has_ipv6
