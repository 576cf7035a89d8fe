#!/usr/bin/env python3
"""Runs COMMAND as this user in a network namespace of its own, which has a loopback interface with ADDRESS on it besides its
own, and leads nowhere. Any user may make one.

usage: apart.py ADDRESS COMMAND...
"""

import fcntl
import os
import socket
import struct
import sys

# What the kernel takes on a socket for an interface (netdevice(7)).
SET_ADDRESS, SET_FLAGS, UP = 0x8916, 0x8914, 1
STAGE = "ADMIT_CI_APART"


def set_up(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
        at = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(sock, SET_ADDRESS, struct.pack("16s", b"lo:1") + at)


def again(stage, *unshare):
    os.environ[STAGE] = stage
    os.execvp("unshare", ["unshare", *unshare, sys.executable, *sys.argv])


stage = os.environ.pop(STAGE, "")
if not stage and os.geteuid() == 0:
    # Root needs no user namespace, and is in the new one what it was.
    again("made", "--net")
if not stage:
    again(f"made {os.geteuid()} {os.getegid()}", "--user", "--map-root-user", "--net")
if stage.startswith("made"):
    set_up(sys.argv[1])
    if ids := stage.split()[1:]:
        again("inside", "--user", "--map-user", ids[0], "--map-group", ids[1])
os.execvp(sys.argv[2], sys.argv[2:])
