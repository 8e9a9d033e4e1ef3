"""Where the planes are: the paths that a proxy in front, a client and our own commands go by."""

from __future__ import annotations

from typing import Final

DATA_PLANE: Final = "/api/v1/gw"
ADMIN_PLANE: Final = f"{DATA_PLANE}/admin"
UI: Final = "/ui"
