"""WSGI entry point, used by `manage.py runserver`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "syncportal.settings")
application = get_wsgi_application()
