"""WSGI entry point, used by `manage.py runserver`."""

import os

from django.core.wsgi import get_wsgi_application

from syncportal.ops.checks import refuse_misconfiguration

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "syncportal.settings")
application = get_wsgi_application()
refuse_misconfiguration()
