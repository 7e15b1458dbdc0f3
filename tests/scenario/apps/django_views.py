# SPDX-License-Identifier: MIT
"""Views and middleware of the Django application: the common paths, and what Django itself brings."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import admin, messages
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.files.storage import default_storage
from django.core.signals import request_finished
from django.db import IntegrityError, transaction
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.template import engines
from django.urls import path, reverse
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.utils.translation import gettext
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_POST
from django_settings import FILES
from parts import PIECE, attend_in_thread, digest, facts, lines, lines_in_thread, meeting, open_gate, pass_gate, pieces
from scenario import note
from shop.models import Article


@sync_only_middleware
def sync_stamp(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Sync-Stamp"] = request.method
        return response

    return middleware


@async_only_middleware
def async_stamp(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], Awaitable[HttpResponse]]:
    async def middleware(request: HttpRequest) -> HttpResponse:
        response = await get_response(request)
        response["X-Async-Stamp"] = request.method
        return response

    return middleware


def finished(**_: Any) -> None:
    note("request finished")


request_finished.connect(finished)


def number(request: HttpRequest, name: str, default: int = 0) -> int:
    return int(request.GET.get(name, default))


# --- common -----------------------------------------------------------------------------------------------------------


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello", content_type="text/plain")


@csrf_exempt
def echo(request: HttpRequest, rest: str = "") -> HttpResponse:
    return JsonResponse(facts(request.scope, request.body))


async def status(request: HttpRequest, code: int) -> HttpResponse:
    return HttpResponse(status=code)


def header(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", headers={"X-Big": "h" * number(request, "bytes")})


async def big(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PIECE * number(request, "pieces"))


async def send_lines(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(lines(number(request, "count"), request.GET.get("gate", "")))


def send_lines_in_thread(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(lines_in_thread(number(request, "count")))


@gzip_page
def zipped(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PIECE * number(request, "pieces"))


@gzip_page
def zipped_lines(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(lines_in_thread(number(request, "count")))


async def send_pieces(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(pieces(number(request, "count"), request.GET["name"]))


async def idle(request: HttpRequest) -> StreamingHttpResponse:
    async def nothing() -> AsyncIterator[bytes]:
        try:
            yield b": open\n\n"
            await asyncio.Event().wait()
        finally:
            note("idle ended")

    return StreamingHttpResponse(nothing(), content_type="text/event-stream")


def crash(request: HttpRequest) -> HttpResponse:
    raise ValueError("the app's own mistake")


async def async_crash(request: HttpRequest) -> HttpResponse:
    raise ValueError("the app's own mistake")


async def crash_late(request: HttpRequest) -> StreamingHttpResponse:
    async def half() -> AsyncIterator[bytes]:
        yield b"half" * 50000  # more than a window: some of it is with the client when the mistake happens
        raise ValueError("too late")

    return StreamingHttpResponse(half())


def mismatch(request: HttpRequest) -> HttpResponse:
    async def cut() -> AsyncIterator[bytes]:
        for _ in range(number(request, "pieces")):
            yield b"x" * 10

    headers = {"Content-Length": request.GET["length"]}
    if number(request, "pieces"):
        return StreamingHttpResponse(cut(), headers=headers)
    return HttpResponse(b"x" * number(request, "bytes"), headers=headers)


async def meet(request: HttpRequest, name: str, size: int) -> HttpResponse:
    await meeting.attend(name, size)
    return HttpResponse("met")


def meet_in_threads(request: HttpRequest, name: str, size: int) -> HttpResponse:
    attend_in_thread(name, size)
    return HttpResponse("met")


async def gate(request: HttpRequest, name: str) -> HttpResponse:
    open_gate(name)
    return HttpResponse(status=204)


common = [
    path("common/hello", hello),
    path("common/echo", echo),
    path("common/echo/<path:rest>", echo),
    path("common/status/<int:code>", status),
    path("common/header", header),
    path("common/big", big),
    path("common/lines", send_lines),
    path("common/lines-in-thread", send_lines_in_thread),
    path("common/pieces", send_pieces),
    path("common/idle", idle),
    path("common/crash", crash),
    path("common/async-crash", async_crash),
    path("common/crash-late", crash_late),
    path("common/mismatch", mismatch),
    path("common/meet/<str:name>/<int:size>", meet),
    path("common/meet-in-threads/<str:name>/<int:size>", meet_in_threads),
    path("common/gate/<str:name>", gate),
]

# --- requests ---------------------------------------------------------------------------------------------------------


def where(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"main": threading.current_thread() is threading.main_thread()})


async def where_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"main": threading.current_thread() is threading.main_thread()})


def url(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        {
            "absolute": request.build_absolute_uri(),
            "reverse": reverse("article", args=["ü x"]),
            "made": request.build_absolute_uri(reverse("url")),
            "secure": request.is_secure(),
            "host": request.get_host(),
            "script": request.META["SCRIPT_NAME"],
            "path": request.path,
            "path_info": request.path_info,
        }
    )


def meta(request: HttpRequest) -> HttpResponse:
    return JsonResponse({name: value for name, value in request.META.items() if isinstance(value, (str, int))})


def query(request: HttpRequest) -> HttpResponse:
    return JsonResponse(dict(request.GET.lists()))


class OrderForm(forms.Form):
    name = forms.CharField(max_length=10)
    count = forms.IntegerField(min_value=1)


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    bound = OrderForm(request.POST)
    if not bound.is_valid():
        return JsonResponse(bound.errors, status=400)
    return JsonResponse(bound.cleaned_data)


@csrf_exempt
def post_lists(request: HttpRequest) -> HttpResponse:
    return JsonResponse(dict(request.POST.lists()))


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    found = []
    for name, files in request.FILES.lists():
        for file in files:
            saved = default_storage.save(f"{threading.get_ident()}/{file.name}", file)
            stored = default_storage.open(saved).read()
            found.append([name, file.name, file.content_type, type(file).__name__, file.size, digest(stored)])
    return JsonResponse({"files": found, "fields": dict(request.POST.lists())})


async def read_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse(digest(await sync_to_async(request.read)()))


read_async.csrf_exempt = True  # type: ignore[attr-defined] # the decorator of Django 4.2 is for synchronous views


async def slow(request: HttpRequest) -> HttpResponse:
    note(f"slow begun {request.GET['gate']}")
    await pass_gate(request.GET["gate"])
    note(f"slow over {request.GET['gate']}")
    return HttpResponse("slow")


class Methods(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("got")

    async def put(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("put", status=201)


# --- responses --------------------------------------------------------------------------------------------------------


def cookies(request: HttpRequest) -> HttpResponse:
    response = JsonResponse(request.COOKIES)
    response.set_cookie("plain", "1")
    response.set_cookie("full", "x y", max_age=60, path="/a", domain="shop.test", secure=True, httponly=True)
    response.set_cookie("strict", "2", samesite="Strict")
    response.delete_cookie("old")
    return response


def signed(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.get_signed_cookie("signed", "none"))
    response.set_signed_cookie("signed", "mine")
    return response


def page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string("<p>{{ text }}</p>{% if user.is_authenticated %}{{ user }}{% endif %}")
    return HttpResponse(template.render({"text": "größe & <so>"}, request))


def language(request: HttpRequest) -> HttpResponse:
    return HttpResponse(gettext("Yes"))


def file(request: HttpRequest) -> FileResponse:
    return FileResponse((FILES / "data.bin").open("rb"), as_attachment=True, filename="dätä.bin")


def rows(request: HttpRequest) -> StreamingHttpResponse:
    def generate() -> Iterator[str]:
        for article in Article.objects.iterator():
            yield f"{article.name}\n"

    return StreamingHttpResponse(generate(), content_type="text/csv")


async def sse(request: HttpRequest) -> StreamingHttpResponse:
    async def events() -> AsyncIterator[str]:
        for count in range(3):
            if count:
                await pass_gate(f"{request.GET['gate']}-{count}")
            yield f"data: event {count}\n\n"

    return StreamingHttpResponse(events(), content_type="text/event-stream")


@condition(etag_func=lambda request: '"fixed"')
def conditional(request: HttpRequest) -> HttpResponse:
    note("conditional made")
    return HttpResponse("made")


def moved(request: HttpRequest) -> HttpResponse:
    return redirect("article", name="ü x", permanent="permanent" in request.GET)


def refuse(request: HttpRequest, how: str) -> HttpResponse:
    kinds = {"403": PermissionDenied("no"), "400": SuspiciousOperation("odd"), "404": Http404("gone")}
    raise kinds[how]


@require_POST
def only_post(request: HttpRequest) -> HttpResponse:
    return HttpResponse("posted")


# --- database, sessions, users ----------------------------------------------------------------------------------------


@csrf_exempt
def article(request: HttpRequest, name: str) -> HttpResponse:
    if request.method == "PUT":
        made, new = Article.objects.update_or_create(name=name, defaults={"stock": len(request.body)})
        return JsonResponse({"id": made.pk}, status=201 if new else 200)
    if request.method == "DELETE":
        Article.objects.filter(name=name).delete()
        return HttpResponse(status=204)
    found = Article.objects.filter(name=name).first()
    if found is None:
        raise Http404
    return JsonResponse({"name": found.name, "stock": found.stock})


async def articles(request: HttpRequest) -> HttpResponse:
    """The asynchronous ORM."""
    if "make" in request.GET:
        await Article.objects.acreate(name=request.GET["make"], stock=1)
    return JsonResponse([article.name async for article in Article.objects.all()], safe=False)


@csrf_exempt
def two_articles(request: HttpRequest) -> HttpResponse:
    """Both or none."""
    try:
        with transaction.atomic():
            for name in request.POST.getlist("name"):
                Article.objects.create(name=name)
    except IntegrityError:
        return HttpResponse("no", status=409)
    return HttpResponse("yes", status=201)


def session(request: HttpRequest) -> HttpResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"]})


def flush(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("bye")


def protected(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_token(request) if request.method == "GET" else "taken")


def say(request: HttpRequest) -> HttpResponse:
    messages.success(request, "größe gespeichert")
    messages.error(request, "second")
    return HttpResponseRedirect(reverse("heard"))


def heard(request: HttpRequest) -> HttpResponse:
    return JsonResponse(
        [[message.level_tag, message.message] for message in messages.get_messages(request)], safe=False
    )


@csrf_exempt
def log_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.POST.get("name"), password=request.POST.get("password"))
    if user is None:
        return HttpResponse("who?", status=401)
    login(request, user)
    return HttpResponse("in")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("out")


@login_required
def secret(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.user))


urlpatterns = [
    *common,
    path("where", where),
    path("where-async", where_async),
    path("url", url, name="url"),
    path("meta", meta),
    path("query", query),
    path("form", form),
    path("post-lists", post_lists),
    path("upload", upload),
    path("read-async", read_async),
    path("slow", slow),
    path("methods", Methods.as_view()),
    path("cookies", cookies),
    path("signed", signed),
    path("page", page),
    path("slash/", page),
    path("language", language),
    path("gzip/big", zipped),
    path("gzip/lines", zipped_lines),
    path("file", file),
    path("rows", rows),
    path("sse", sse),
    path("conditional", conditional),
    path("moved", moved),
    path("refuse/<str:how>", refuse),
    path("only-post", only_post),
    path("articles", articles),
    path("two-articles", two_articles),
    path("article/<str:name>", article, name="article"),
    path("session", session),
    path("session/flush", flush),
    path("protected", protected),
    path("say", say),
    path("heard", heard, name="heard"),
    path("login", log_in),
    path("logout", log_out),
    path("secret", secret),
    path("admin/", admin.site.urls),
]
