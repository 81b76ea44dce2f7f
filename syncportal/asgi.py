"""ASGI entry point: `gunicorn -k asgi syncportal.asgi:application`."""

import os
import warnings

from django.core.asgi import get_asgi_application

from syncportal.ops.checks import refuse_misconfiguration
from syncportal.sync.live.door import Door

# WhiteNoise reads its small files synchronously; they are whole in memory before anything is sent.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "syncportal.settings")
application = Door(get_asgi_application())
refuse_misconfiguration()
