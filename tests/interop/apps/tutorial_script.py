"""What the tutorial's script asks of its app, and one request more: `python tutorial_script.py http://127.0.0.1:8000`."""

import sys

import requests

base_url = sys.argv[1]

response = requests.post(f"{base_url}/login/", json={"username": "abdullah"})
print("Login:", response.text)
# `requests` keeps no cookies between calls, as a browser would.
session_cookie = response.cookies.get("session_id")

profile = requests.get(f"{base_url}/profile/", cookies={"session_id": session_cookie})
print("Profile:", profile.text)

logout = requests.post(f"{base_url}/logout/", cookies={"session_id": session_cookie})
print("Logout:", logout.text)

after = requests.get(f"{base_url}/profile/", cookies={"session_id": session_cookie})
print("Profile after logout:", after.text)

nobody = requests.get(f"{base_url}/profile/")
print("Profile without a cookie:", nobody.text)
