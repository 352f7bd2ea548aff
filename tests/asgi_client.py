"""A client that asks an ASGI application in this process, as from one address."""

import asyncio
import dataclasses

import httpx


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsgiClient:
    app: object
    base_url: str
    peer: str = "127.0.0.1"

    def request(self, method, path, **options):
        async def ask():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(self.peer, 50_000))
            async with httpx.AsyncClient(transport=transport, base_url=self.base_url) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, **options):
        return self.request("POST", path, **options)
