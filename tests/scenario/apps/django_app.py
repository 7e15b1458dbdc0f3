# SPDX-License-Identifier: MIT
"""A Django application: its database is made when it is imported."""

import os
import threading

import django
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.management import call_command

os.environ["DJANGO_SETTINGS_MODULE"] = "django_settings"
django.setup()


def make_database() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    from django.contrib.auth.models import User

    User.objects.create_superuser("ada", "ada@example.test", "secret")


# In a thread of its own: the importing thread may run an event loop already, where Django refuses to use its database.
maker = threading.Thread(target=make_database)
maker.start()
maker.join()

app = ASGIStaticFilesHandler(get_asgi_application())
