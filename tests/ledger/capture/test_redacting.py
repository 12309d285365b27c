"""Credentials are taken out wherever they stand in JSON, and nothing else is touched."""

from __future__ import annotations

import json
import random

import pytest

from claude_proxy.ledger.capture.redacting import OVERLAP, REDACTED, WINDOW, Memory, Redactor

HEX = "0123456789abcdef" * 2
SECRETS = {
    "Anthropic": "sk-ant-api03-AbCdEf0123456789_-xyz",
    "OpenAI": "sk-proj-abcdef0123456789",
    "OpenRouter": f"sk-or-v1-{HEX}",
    "z.ai": f"{HEX}.AbCdEfGh12345678",
    "AWS": "AKIAIOSFODNN7EXAMPLE",
    "AWS session": "ASIAIOSFODNN7EXAMPLE",
    "GitHub": "ghp_" + "a1B2" * 9,
    "GitHub fine": "github_pat_" + "a1B2_" * 8,
    "GitLab": "glpat-abcdefghij0123456789",
    "Slack": "xoxb-123456789012-abcdefABCDEF",
    "Slack app": "xapp-1-A0123456-abcdef",
    "Google": "AIza" + "a1B2-" * 7,
    "Google OAuth": "ya29.a0AfH6SMBabcdefgh",
    "Stripe": "sk_" + "live_" + "a1B2c3D4e5F6g7H8",
    "npm": "npm_" + "a1B2" * 9,
    "PyPI": "pypi-AgEIcHlwaS5vcmcCJDEyMzQ1Njc4OTAx",
    "Hugging Face": "hf_" + "aB1" * 10,
    "ntfy": "tk_" + "a1b2c3d4" * 4,
    "SendGrid": "SG." + "a1B2c3D4e5F6g7H8" + "." + "a1B2c3D4e5F6g7H8",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
}
AROUND = {
    "alone": "{}",
    "in a sentence": "use {} please",
    "at the start of a line": "keys:\n{}\nend",
    "behind a tab": "key\t{}",
    "in an assignment": "KEY={}",
    "quoted": 'key = "{}"',
    "in JSON in a string": '{{"key": "{}"}}',
    "in a URL": "https://h/?key={}&x=1",
    "in brackets": "({})",
}


@pytest.mark.parametrize("depth", [1, 2, 3], ids=["once", "twice", "three times"])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", SECRETS)
def test_what_looks_like_a_credential_goes_and_the_rest_stays(name: str, around: str, depth: int) -> None:
    """Also in JSON that is a string in JSON that is a string in JSON."""
    secret = SECRETS[name]
    text, expected = AROUND[around].format(secret), AROUND[around].format("[redacted]")
    for _ in range(depth):
        text, expected = json.dumps(text), json.dumps(expected)
    found = Redactor()(text.encode()).decode()
    assert secret not in found
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("authorization: bearer abcdefghijklmnopqrstuvwx", "authorization: bearer [redacted]"),
        ("Basic dXNlcjpwYXNzd29yZDEy", "Basic [redacted]"),
        ("ANTHROPIC_API_KEY=abc123def", "ANTHROPIC_API_KEY=[redacted]"),
        ('{"api_key": "abc123def"}', '{"api_key": "[redacted]"}'),
        ('{"password":"hunter22"}', '{"password":"[redacted]"}'),
        ("x-api-key: abc123def", "x-api-key: [redacted]"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = [redacted]"),
        ("postgresql://user:pa55word@host/db", "postgresql://user:[redacted]@host/db"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIabc+/=\nxyz\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_what_is_named_as_a_credential_goes_and_its_name_stays(text: str, expected: str) -> None:
    assert json.loads(Redactor()(json.dumps(text).encode())) == expected


@pytest.mark.parametrize(
    "text",
    [
        "task-management and disk-usage and risk-free",
        "Bearer authentication is described below; basic understanding",
        '{"max_tokens":32000,"budget_tokens":1024,"input_tokens":12}',
        '{"password":{"type":"string"},"api_key":{"description":"the key"},"token":123456789012}',
        "password: str, api_key: string",
        "git@github.com:owner/repo.git https://host:8080/path user@example.com",
        "tk_window hf_model npm_config eyJ SG. xox- AKIA",
        "0123456789abcdef0123456789abcdef.py",
        "asia Asia ASIA",
        "",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor()(text.encode()) == text.encode()
    assert Redactor()(json.dumps(text).encode()) == json.dumps(text).encode()


@pytest.mark.parametrize("secret", ["plain-word", 'with"quote', "with/slash", "back\\slash", "ümlaut-key"])
def test_an_exact_credential_goes_however_json_writes_it(secret: str) -> None:
    redactor = Redactor([secret.encode("latin-1")])
    for text in (json.dumps(f"a{secret}b"), json.dumps(f"a{secret}b").replace("/", "\\/")):
        assert json.loads(redactor(text.encode())) == "a[redacted]b"


def test_an_exact_credential_that_is_too_short_stays() -> None:
    assert Redactor([b"abc"])(b"abc abcabc") == b"abc abcabc"


@pytest.mark.parametrize(
    "secret", [SECRETS["Anthropic"], SECRETS["z.ai"], SECRETS["SendGrid"], "exact-credential", "sk-" + "a" * 3 * OVERLAP]
)
@pytest.mark.parametrize("offset", [-70, -40, -33, -32, -16, -3, -1, 0, 1, OVERLAP - 20, OVERLAP, OVERLAP + 20])
def test_a_credential_across_the_edge_of_a_window_goes(secret: str, offset: int) -> None:
    before = b" " * (WINDOW + offset)
    assert Redactor([b"exact-credential"])(before + secret.encode() + b" end") == before + REDACTED + b" end"


def test_an_image_stays_as_it_is() -> None:
    """Base64 of noise holds no credential, whatever its letters say by chance."""
    import base64

    data = base64.b64encode(random.Random(1).randbytes(3_000_000))
    assert Redactor()(data) == data


def test_json_stays_json() -> None:
    """Random pieces of credentials in random places of JSON, as keys, values and in text."""
    dice = random.Random(7)
    words = [
        *SECRETS.values(),
        "password",
        '"',
        "\\",
        "\n",
        ":",
        "=",
        " ",
        "Bearer",
        "api_key",
        "12345678",
        "://",
        "@",
        "BEGIN",
        "-----",
    ]
    for _ in range(3000):
        texts = ["".join(dice.choices(words, k=6)) for _ in range(4)]
        data = json.dumps({texts[0]: [texts[1], {"password": 123456789}], "x": json.dumps({texts[2]: texts[3]})})
        json.loads(Redactor()(data.encode()))


def test_what_is_remembered_is_bound_to_the_credentials_that_were_looked_for() -> None:
    memory = Memory(2)
    one, other = Redactor([b"credential-one"]), Redactor([b"credential-two"])
    keys = [memory.key("message", b"text", one), memory.key("message", b"text", other), memory.key("tool", b"text", one)]
    assert len(set(keys)) == 3
    for key in keys:
        memory.put(key, b"hash")
    assert [memory.get(key) for key in keys] == [None, b"hash", b"hash"]
