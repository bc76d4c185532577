"""What the metadata service must answer, whatever its database (docs/metadata-service.md)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re

import httpx2
import pytest

from fs9.auth.judge import Judge
from fs9.auth.tokens import sign
from fs9.meta.app import MetaApplication
from fs9.meta.issuing import Issuer
from fs9.meta.passwords import Passwords
from fs9.meta.service import MetaService
from fs9.threads import BlockingPool

SECRET = "a secret of the tests, longer than 32 bytes"
KEY = "the admin key of the tests"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JSON = "application/json"
DAY_S = 86_400


class Api:
    """Calls of a service in this process."""

    def __init__(self, http):
        self.http = http

    async def __call__(self, method, path, body=None, *, status=200, **more):
        reply = await self.http.request(method, f"/api/v1{path}", json=body, **more)
        assert reply.status_code == status, reply.text
        return reply.json()

    async def user(self, name="alice", **more):
        return (await self("POST", "/users", {"username": name, **more}))["id"]

    async def token(self, user, namespace="acme", roles=("read-write",), **more):
        body = {"user_id": user, "namespace": namespace, "roles": list(roles), **more}
        return (await self("POST", "/tokens/generate", body))["token"]

    async def verdict(self, token):
        return await self("POST", "/tokens/validate", {"token": token})


@contextlib.asynccontextmanager
async def served(store, clock, key=KEY):
    """The application over a store, without a server in between."""
    pool = BlockingPool(4)
    service = MetaService(store, Passwords(pool), clock)
    issuer = Issuer(service, Judge(SECRET, store, clock))

    async def start():
        await service.ensure_default()
        return service, issuer

    async def stop():
        pool.shutdown()

    application = MetaApplication(key, start, stop)
    await application.open()
    transport = httpx2.ASGITransport(application.app)
    headers = {"x-fs9-meta-key": key} if key else {}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://meta", headers=headers
    ) as http:
        yield http
    await application.close()


class ServiceSuite:
    @pytest.fixture
    async def api(self, store, clock):
        async with served(store, clock) as http:
            yield Api(http)

    @pytest.fixture
    async def acme(self, api):
        return await api("POST", "/namespaces", {"name": "acme"})

    async def test_namespaces(self, api, acme):
        """Create, list, get, delete, and the name can be used again."""
        assert acme["name"] == "acme"
        assert acme["status"] == "active"
        assert UUID.fullmatch(acme["id"])
        names = [each["name"] for each in await api("GET", "/namespaces")]
        assert names == ["acme", "default"]
        again = await api("POST", "/namespaces", {"name": "acme"}, status=409)
        assert again["error"] == again["detail"] == "Namespace 'acme' already exists"
        unknown = await api("GET", "/namespaces/nobody", status=404)
        assert unknown["error"] == "Namespace 'nobody' not found"
        assert (await api("DELETE", "/namespaces/acme"))["deleted"] is True
        await api("GET", "/namespaces/acme", status=404)
        await api("DELETE", "/namespaces/acme", status=404)
        assert (await api("POST", "/namespaces", {"name": "acme"}))["id"] != acme["id"]
        await api("POST", "/namespaces", {"name": "Ac/me"}, status=400)

    async def test_namespaces_of_the_other_family(self, api):
        """The same store under /admin, with that family's statuses and fields."""
        made = await api("POST", "/admin/namespaces", {"name": "acme", "description": "Åcme"})
        assert (made["description"], made["user_count"]) == ("Åcme", 0)
        await api("POST", "/admin/namespaces", {"name": "acme"}, status=400)
        body = {"username": "bob", "password": "pw", "roles": ["read-only"]}
        bob = await api("POST", "/admin/namespaces/acme/users", body)
        assert bob["roles"] == ["read-only"]
        await api("POST", "/admin/namespaces/acme/users", body, status=400)
        wrong = {"username": "eve", "roles": ["root"]}
        await api("POST", "/admin/namespaces/acme/users", wrong, status=400)
        members = await api("GET", "/admin/namespaces/acme/users")
        assert [each["username"] for each in members] == ["bob"]
        assert (await api("GET", "/admin/namespaces/acme"))["user_count"] == 1
        made = await api("POST", "/admin/tokens", {"user_id": bob["id"]})
        assert (made["namespace"], made["roles"]) == ("acme", ["read-only"])
        deleted = await api("DELETE", f"/admin/users/{bob['id']}")
        assert deleted["status"] == "deleted"
        assert (await api("DELETE", "/admin/namespaces/acme"))["status"] == "deleted"
        await api("DELETE", "/admin/namespaces/default", status=400)

    async def test_a_quota_is_one_that_can_be_kept(self, api, acme):
        """None is negative, and no rate of requests is below one a second."""
        for quota in ({"bytes_max": -1}, {"handles_max": 2**63}, {"requests_per_second_max": 0}):
            await api("PUT", "/namespaces/acme/quota", {"quota": quota}, status=400)
            await api("POST", "/namespaces", {"name": "new", "quota": quota}, status=400)
        await api("GET", "/namespaces/new", status=404)
        quota = {"bytes_max": 0, "requests_per_second_max": 1}
        changed = await api("PUT", "/namespaces/acme/quota", {"quota": quota})
        assert changed["quota"] == quota

    async def test_mounts(self, api, acme):
        """Created, listed by path, found and deleted, nested and with odd characters."""
        assert acme["mounts"] == []
        for path in ("/", "/data/deep", "/odd name%?#"):
            body = {"path": path, "provider": "memfs", "config": {"n": [1, None]}}
            made = await api("POST", "/namespaces/acme/mounts", body)
            assert (made["path"], made["config"]) == (path, {"n": [1, None]})
        await api("POST", "/namespaces/acme/mounts", body, status=409)
        await api("POST", "/namespaces/nobody/mounts", body, status=404)
        listed = [each["path"] for each in await api("GET", "/namespaces/acme/mounts")]
        assert listed == ["/", "/data/deep", "/odd name%?#"]
        assert (await api("GET", "/namespaces/acme/mounts/data/deep"))["provider"] == "memfs"
        await api("DELETE", "/namespaces/acme/mounts/data/deep")
        await api("DELETE", "/namespaces/acme/mounts/odd%20name%25%3F%23")
        await api("DELETE", "/namespaces/acme/mounts", params={"path": "/"})
        await api("DELETE", "/namespaces/acme/mounts/data/deep", status=404)
        assert await api("GET", "/namespaces/acme/mounts") == []

    async def test_users_and_roles(self, api, acme):
        """Users come and go, a name may be used again, roles are known ones."""
        user = await api.user(email="a@example.org")
        await api("POST", "/users", {"username": "alice"}, status=409)
        assert (await api("GET", "/users/by-name/alice"))["id"] == user
        role = {"namespace": "acme", "role": "read-write"}
        assert (await api("POST", f"/users/{user}/roles", role))["role"] == "read-write"
        await api("POST", f"/users/{user}/roles", role, status=409)
        await api("POST", f"/users/{user}/roles", {**role, "role": "root"}, status=400)
        await api("POST", f"/users/{user}/roles", {**role, "namespace": "no"}, status=404)
        assert len(await api("GET", f"/users/{user}/roles")) == 1
        assert await api("DELETE", f"/users/{user}/roles/acme/read-write") == {"revoked": True}
        await api("DELETE", f"/users/{user}/roles/acme/read-write", status=404)
        assert (await api("DELETE", f"/users/{user}"))["deleted"] is True
        await api("GET", "/users/by-name/alice", status=404)
        assert await api.user() != user
        await api("POST", "/users", {"username": user}, status=400)

    async def test_passwords_are_kept_as_argon2id_and_can_be_checked(self, api, store):
        """W-A15: they are of use, and nowhere to be read."""
        await api.user(password="correct horse")
        assert (await store.password_hash("alice")).startswith("$argon2id$")
        check = {"username": "alice", "password": "correct horse"}
        assert (await api("POST", "/users/verify-password", check))["valid"] is True
        for wrong in ({"password": "x"}, {"username": "nobody"}):
            said = await api("POST", "/users/verify-password", check | wrong)
            assert said == {"valid": False, "user_id": None}

    async def test_tokens(self, api, acme, clock):
        """Generated, judged, refreshed; garbage is 200 with valid false."""
        user = await api.user()
        token = await api.token(user)
        verdict = await api.verdict(token)
        assert verdict["valid"] is True
        assert (verdict["user_id"], verdict["namespace"]) == (user, "acme")
        assert verdict["roles"] == ["read-write"]
        new = (await api("POST", "/tokens/refresh", {"token": token}))["token"]
        assert new != token
        assert (await api.verdict(new))["valid"] is True
        garbage = await api.verdict("x.y.z")
        assert garbage["valid"] is False
        assert garbage["error"]
        clock.advance(DAY_S + 61)
        assert (await api.verdict(token))["error"] == "ExpiredSignature"
        await api("POST", "/tokens/refresh", {"token": token})
        clock.advance(7 * DAY_S)
        await api("POST", "/tokens/refresh", {"token": token}, status=401)

    async def test_a_token_is_made_only_for_what_there_is(self, api, acme):
        """W-A15: user, namespace and roles are known, the time is bounded."""
        user = await api.user()
        good = {"user_id": user, "namespace": "acme", "roles": ["read-only"]}
        for change, status in (
            ({"user_id": "nobody"}, 404),
            ({"namespace": "nobody"}, 404),
            ({"roles": ["root"]}, 400),
            ({"roles": []}, 400),
            ({"ttl_seconds": 0}, 400),
            ({"ttl_seconds": 10**9}, 400),
        ):
            await api("POST", "/tokens/generate", good | change, status=status)
        await api("POST", f"/users/{user}/roles", {"namespace": "acme", "role": "read-only"})
        await api("POST", "/tokens/generate", good)
        await api("POST", "/tokens/generate", good | {"roles": ["admin"]}, status=400)

    async def test_a_user_that_is_not_active_has_no_tokens(self, api, acme, store, clock):
        """Suspended or deleted: refused, not refreshed, and the file servers hear of it."""
        user = await api.user()
        token = await api.token(user)
        await api("PUT", f"/users/{user}/status", {"status": "suspended"})
        assert (await api.verdict(token))["error"] == "Token has been revoked"
        refused = await api("POST", "/tokens/refresh", {"token": token}, status=401)
        assert refused["error"] == "Token has been revoked"
        named = sign(
            {"sub": "alice", "ns": "acme", "iat": now(clock), "exp": now(clock) + 60}, SECRET
        )
        clock.advance(5)
        assert (await api.verdict(named))["valid"] is False
        kinds = {(each.kind, each.subject) for each in (await store.changes_since(0)).revocations}
        assert kinds == {("user", user), ("user", "alice")}
        await api("PUT", f"/users/{user}/status", {"status": "active"})
        clock.advance(5)
        token = await api.token(user)
        assert (await api.verdict(token))["valid"] is True
        await api("DELETE", f"/users/{user}")
        assert (await api.verdict(token))["valid"] is False

    async def test_a_token_of_no_known_user_holds_by_its_signature(self, api, clock):
        """`fs9-admin` signs free text, for namespaces that need not exist."""
        now_s = now(clock)
        claims = {"sub": "root", "ns": "admin", "roles": ["admin"], "iat": now_s, "exp": now_s + 9}
        verdict = await api.verdict(sign(claims, SECRET))
        assert (verdict["valid"], verdict["user_id"]) == (True, "root")
        assert (await api.verdict(sign(claims, SECRET + "x")))["error"] == "InvalidSignature"
        del claims["ns"]
        assert (await api.verdict(sign(claims, SECRET)))["valid"] is False

    async def test_a_refresh_never_gives_back_a_role_that_was_taken(self, api, acme, clock):
        """Nor one that the user has never had; an empty list would mean every right."""
        user = await api.user()
        for role in ("read-write", "read-only"):
            await api("POST", f"/users/{user}/roles", {"namespace": "acme", "role": role})
        token = await api.token(user, roles=("read-write", "read-only"))
        await api("DELETE", f"/users/{user}/roles/acme/read-write")
        assert (await api.verdict(token))["error"] == "Token has been revoked"
        now_s = now(clock) + 1
        claims = {"sub": user, "ns": "acme", "iat": now_s, "exp": now_s + 60}
        wide = sign({**claims, "roles": ["read-write", "read-only"]}, SECRET)
        new = await api("POST", "/tokens/refresh", {"token": wide})
        assert new["roles"] == ["read-only"]
        admin = sign({**claims, "roles": ["admin"]}, SECRET)
        await api("POST", "/tokens/refresh", {"token": admin}, status=401)
        nothing = sign({**claims, "roles": []}, SECRET)
        assert (await api("POST", "/tokens/refresh", {"token": nothing}))["roles"] == ["read-only"]

    async def test_what_was_refreshed_ends_with_the_first_token(self, api, acme, clock):
        """However often it was."""
        first = await api.token(await api.user())
        second = (await api("POST", "/tokens/refresh", {"token": first}))["token"]
        third = (await api("POST", "/tokens/refresh", {"token": second}))["token"]
        assert (await api.verdict(third))["valid"] is True
        subject = hashlib.sha256(first.encode()).hexdigest()
        times = {"expires_at_s": now(clock) + 9999, "created_at_s": now(clock)}
        revocation = {"kind": "token", "subject": subject, "namespace": None, "created_by": "root"}
        await api("POST", "/revocations", {"revocations": [revocation | times]})
        for each in (first, second, third):
            assert (await api.verdict(each))["error"] == "Token has been revoked"
        await api("POST", "/tokens/refresh", {"token": third}, status=401)

    async def test_tokens_of_a_namespace_end_with_it(self, api, acme, store, clock):
        """Suspended: while it lasts. Deleted: also for the next one of that name.

        A token of that one holds, though it is asked for in the second of the deletion.
        """
        clock.advance(0.95)
        user = await api.user()
        token = await api.token(user)
        await api("PUT", "/namespaces/acme/status", {"status": "suspended"})
        assert (await api.verdict(token))["error"] == "Namespace is not active"
        await api("POST", "/tokens/refresh", {"token": token}, status=401)
        await api("PUT", "/namespaces/acme/status", {"status": "active"})
        assert (await api.verdict(token))["valid"] is True
        await api("DELETE", "/namespaces/acme")
        await api("POST", "/namespaces", {"name": "acme"})
        assert (await api.verdict(token))["error"] == "Token has been revoked"
        asked = asyncio.create_task(api.token(user))
        while not asked.done():  # it waits for the next second
            await asyncio.sleep(0.02)
            clock.advance(0.05)
        assert (await api.verdict(await asked))["valid"] is True
        assert "acme" in (await store.changes_since(1)).namespaces

    async def test_a_revoked_token_is_revoked_in_every_process(self, api, acme, store, clock):
        """The other one asks the store before it judges."""
        token = await api.token(await api.user())
        async with served(store, clock) as http:
            other = Api(http)
            assert (await other.verdict(token))["valid"] is True
            digest = hashlib.sha256(token.encode()).hexdigest()
            revocation = {
                "kind": "token",
                "subject": digest,
                "namespace": None,
                "created_by": "t",
                "expires_at_s": 2**32 - 1,
                "created_at_s": now(clock),
            }
            await api("POST", "/revocations", {"revocations": [revocation]})
            assert (await other.verdict(token))["error"] == "Token has been revoked"
            wrong = revocation | {"subject": "no digest"}
            await api("POST", "/revocations", {"revocations": [wrong]}, status=400)

    async def test_changes_are_told_to_who_waits(self, api, acme, store):
        """As soon as there is one; without, the answer comes at the end of the wait."""
        last = (await api("GET", "/changes/last"))["last_id"]
        wait = {"params": {"after": last, "wait": 25}}
        waiting = asyncio.create_task(api("GET", "/changes/last", **wait))
        await api("PUT", "/namespaces/acme/status", {"status": "suspended"})
        assert await asyncio.wait_for(waiting, 20) == {"last_id": last + 1, "waited": True}
        assert (await api("GET", "/changes/last", **wait))["last_id"] == last + 1
        level = {"params": {"after": last + 1, "wait": 1}}
        assert (await api("GET", "/changes/last", **level)) == {"last_id": last + 1, "waited": True}
        store.notifications.end_waits()
        level = {"params": {"after": last + 1, "wait": 25}}
        cut = await asyncio.wait_for(api("GET", "/changes/last", **level), 20)
        assert cut == {"last_id": last + 1, "waited": False}
        await api("GET", "/changes/last", params={"after": 0, "wait": "x"}, status=400)

    async def test_api_keys(self, api, acme, store):
        """Made (for a real user), stored hashed, judged, touched, listed, revoked for ever."""
        made = await api("POST", "/apikeys", {"namespace": "acme", "name": "ci", "roles": []})
        assert re.fullmatch(r"fs9_[0-9a-f]{32}", made["key"])
        owner = await api("GET", f"/users/{made['user_id']}")
        assert owner["username"] == "system"
        verdict = await api("POST", "/apikeys/validate", {"key": made["key"]})
        assert (verdict["valid"], verdict["namespace"]) == (True, "acme")
        (listed,) = await api("GET", "/apikeys")
        assert listed["last_used_at"] is not None
        assert "key" not in listed
        digest = hashlib.sha256(made["key"].encode()).hexdigest()
        kept = await api("GET", f"/apikeys/by-digest/{digest}")
        assert kept["key"]["id"] == made["id"]
        assert (await api("DELETE", f"/apikeys/{made['id']}")) == {"revoked": True}
        refused = await api("POST", "/apikeys/validate", {"key": made["key"]})
        assert (refused["valid"], refused["error"]) == (False, "Token has been revoked")
        (revocation,) = (await store.changes_since(0)).revocations
        assert (revocation.kind, revocation.subject) == ("key", made["id"])
        await api("DELETE", "/apikeys/nobody", status=404)
        unknown = await api("POST", "/apikeys/validate", {"key": "fs9_" + 32 * "0"})
        assert unknown["valid"] is False
        body = {"namespace": "acme", "name": "x", "expires_in_days": 0}
        await api("POST", "/apikeys", body, status=400)

    async def test_the_admin_key_guards_every_route(self, api):
        """In either header, compared whole; the first one counts; /health needs none."""
        http = api.http
        for path in ("/namespaces", "/ping", "/changes", "/nothing", "/tokens/validate"):
            reply = await http.post(
                f"/api/v1{path}", headers={"x-fs9-meta-key": KEY + "x"}, json={}
            )
            assert reply.status_code == 401
            assert reply.json()["error"] == "missing or invalid admin key"
        reply = await http.get("/api/v1/admin/namespaces", headers={"x-fs9-meta-key": ""})
        assert (reply.status_code, reply.json()["detail"]) == (403, "Invalid or missing admin key")
        del http.headers["x-fs9-meta-key"]
        bearer = {"authorization": f"Bearer {KEY}"}
        assert (await http.get("/api/v1/namespaces", headers=bearer)).status_code == 200
        both = bearer | {"x-fs9-meta-key": "wrong"}
        assert (await http.get("/api/v1/namespaces", headers=both)).status_code == 401
        assert (await http.get("/api/v1/namespaces")).status_code == 401
        health = await http.get("/health")
        assert (health.status_code, health.text) == (200, "ok")
        assert (await http.head("/health")).status_code == 200
        blank = {"x-fs9-meta-key": f"{KEY} "}  # no part of the value (RFC 9110 5.5)
        assert (await http.get("/api/v1/namespaces", headers=blank)).status_code == 200

    async def test_wrong_requests_get_errors_that_say_so(self, api, acme):
        """With both keys, never a page of the framework."""
        await api("POST", "/namespaces/acme/mounts", {"path": "/", "provider": "memfs"})
        for method, path, content, status in (
            ("POST", "/namespaces", b"{", 422),
            ("POST", "/namespaces", b'{"nam": 1}', 422),
            ("POST", "/namespaces", b'{"name": "\xff"}', 422),
            ("PATCH", "/namespaces", b"", 405),
            ("GET", "/nothing", b"", 404),
            ("POST", "/namespaces/acme/mounts", b'{"path": "/", "provider": "memfs"}', 409),
            ("DELETE", "/namespaces/acme/mounts/none", b"", 404),
            ("GET", "/changes?after=x", b"", 400),
            ("POST", "/tokens/validate", b'{"token": "\\ud800"}', 422),
        ):
            reply = await api.http.request(
                method, f"/api/v1{path}", content=content, headers={"content-type": JSON}
            )
            assert reply.status_code == status, (path, reply.text)
            assert reply.json()["error"] == reply.json()["detail"]
            assert " " in reply.json()["error"], "a sentence"
        reply = await api.http.post("/health")
        assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
        assert reply.json()["error"] == reply.json()["detail"]

    async def test_a_body_says_that_it_is_json(self, api):
        """As a page in a browser cannot without being asked first: it may reach the loopback."""
        for kind, status in (
            (None, 415),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("application/jsonp", 415),
            ("application/vnd.fs9+json", 200),
            ("Application/JSON; charset=utf-8", 200),
        ):
            reply = await api.http.post(
                "/api/v1/tokens/validate",
                content=b'{"token": "x"}',
                headers={} if kind is None else {"content-type": kind},
            )
            assert reply.status_code == status, kind


def now(clock):
    return int(clock.now_s())
