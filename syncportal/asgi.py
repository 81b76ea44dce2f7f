"""ASGI entry point: `gunicorn -k asgi syncportal.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

from syncportal.ops.checks import refuse_misconfiguration

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "syncportal.settings")
application = get_asgi_application()
refuse_misconfiguration()
