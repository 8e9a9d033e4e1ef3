"""Certificates for loopback that sign themselves."""

from __future__ import annotations

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def self_signed(folder: Path, host: str = "127.0.0.1", *, has_names: bool = True) -> str:
    """A key and a certificate for a host in one file, by its common name alone if it has no names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    own = x509.DNSName(host) if host[-1].isalpha() else x509.IPAddress(ip_address(host))
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now.replace(year=2099))
    )  # fmt: skip
    if has_names:
        builder = builder.add_extension(x509.SubjectAlternativeName([own]), critical=False)
    made = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return str(path)
