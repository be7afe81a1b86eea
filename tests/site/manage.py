#!/usr/bin/python3
"""Django's command line for the sample site; SITE_DIR names the folder of its database and uploads."""
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demosite.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
