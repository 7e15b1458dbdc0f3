# SPDX-License-Identifier: MIT
"""The chat room with Django Channels: a consumer in a group of the channel layer in memory."""

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="not one",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from urllib.parse import parse_qs  # noqa: E402

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402
from scenario import note  # noqa: E402


class Room(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self.name = parse_qs(self.scope["query_string"].decode())["name"][0]
        if self.name == "stranger":
            await self.close()
            return
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept("chat" if "chat" in self.scope["subprotocols"] else None)
        note(f"joined {self.name} over {self.scope['http_version']}")

    async def receive_json(self, content: dict[str, str]) -> None:
        await self.channel_layer.group_send("room", {"type": "said", "name": self.name, "text": content["text"]})

    async def said(self, event: dict[str, str]) -> None:
        await self.send_json({"name": event["name"], "text": event["text"]})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)
        note(f"left {self.name} {code}")


app = ProtocolTypeRouter({"websocket": URLRouter([path("chat/room", Room.as_asgi())])})
