"""Stripe's API by its reference: every body is a form."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import FORM, Call, Operation, Seen, Stop, delete, form, get, reply, table

SECRETS = {"token": "rk_test_upstream"}
_PAY = b"amount=1999&currency=eur&automatic_payment_methods[enabled]=true"
_ONCE = {**FORM, "Idempotency-Key": "k1", "Stripe-Version": "2026-09-30.endive"}
_BUY = b"mode=payment&line_items[0][price]=price_1&line_items[0][quantity]=1"
_ADA = b"name=Ada+Lovelace&email=ada%40example.com"
_CUS, _PI = "/v1/customers/cus_1", "/v1/payment_intents/pi_1"

CALLS = [
    get("get-balance", "/v1/balance", b'"object":"balance"'),
    form("create-customer", "/v1/customers", _ADA, b'"name":"Ada Lovelace"'),
    get("list-customers", "/v1/customers?limit=3&email=ada%40example.com", b'"object":"list"'),
    get("get-customer", _CUS, b'"cus_1"'),
    get("get-customer", "/v1/customers/cus_none", b"resource_missing", 404),
    form("update-customer", _CUS, b"metadata[plan]=gold", b'"metadata[plan]":"gold"'),
    delete("delete-customer", _CUS, b'"deleted":true'),
    Call("create-payment-intent", "POST", "/v1/payment_intents", _ONCE, _PAY, 200, b'"once":"k1"'),
    form("create-payment-intent", "/v1/payment_intents", b"amount=1", b"currency is miss", 400),
    get("list-payment-intents", "/v1/payment_intents", b'"object":"list"'),
    get("get-payment-intent", _PI, b'"pi_1"'),
    form("confirm-payment-intent", f"{_PI}/confirm", b"payment_method=pm_card_visa", b'"pi_1"'),
    form("cancel-payment-intent", f"{_PI}/cancel", b"cancellation_reason=abandoned", b'"pi_1"'),
    form("create-checkout-session", "/v1/checkout/sessions", _BUY, b'"cs_test_1"'),
    get("get-checkout-session", "/v1/checkout/sessions/cs_test_1", b'"cs_test_1"'),
    form("create-refund", "/v1/refunds", b"payment_intent=pi_1", b'"re_1"'),
    form("create-product", "/v1/products", b"name=Gold", b'"prod_1"'),
    get("list-products", "/v1/products", b'"object":"list"'),
    form("create-price", "/v1/prices", b"currency=eur&unit_amount=1000&product=p", b'"price_1"'),
    get("list-prices", "/v1/prices", b'"object":"list"'),
    get("list-invoices", "/v1/invoices?status=paid", b'"object":"list"'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _kept(seen: Seen) -> web.Response:
    """What was sent, with an id."""
    once = "".join(seen.all("Idempotency-Key"))
    return reply({"id": _IDS.get(seen.path, "cus_1"), "once": once, **seen.form()})


def _fault(status: int, message: str) -> web.Response:
    told = 400 if status == 415 else status
    error = {"type": "invalid_request_error", "message": message}
    return reply({"error": error | ({"code": "resource_missing"} if told == 404 else {})}, told)


_KIND = FORM["Content-Type"]
_IDS = {
    "/v1/checkout/sessions": "cs_test_1",
    "/v1/refunds": "re_1",
    "/v1/products": "prod_1",
    "/v1/prices": "price_1",
    **dict.fromkeys(("/v1/payment_intents", f"{_PI}/confirm", f"{_PI}/cancel"), "pi_1"),
}
_LISTED = "/v1/(customers|payment_intents|products|prices|invoices)"
_OPERATIONS = [
    Operation("GET", "/v1/balance", {"object": "balance", "livemode": False}),
    Operation("GET", _LISTED, {"object": "list", "data": [], "has_more": False}),
    Operation("GET", _CUS, {"id": "cus_1"}),
    Operation("DELETE", _CUS, {"id": "cus_1", "object": "customer", "deleted": True}),
    Operation("GET", _PI, {"id": "pi_1"}),
    Operation("GET", "/v1/checkout/sessions/cs_test_1", {"id": "cs_test_1"}),
    Operation("POST", "/v1/payment_intents", _kept, _KIND, ("amount", "currency")),
    Operation("POST", "/v1/products", _kept, _KIND, ("name",)),
    Operation("POST", "/v1/prices", _kept, _KIND, ("currency",)),
    Operation("POST", f"/v1/(customers|checkout/sessions|refunds)|{_CUS}", _kept, _KIND),
    Operation("POST", f"{_PI}/(confirm|cancel)", _kept, _KIND),
]
