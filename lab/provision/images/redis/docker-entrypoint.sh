#!/bin/sh
# Starts redis as the official image does: options alone are redis-server's, and
# as root it takes over /data and becomes the user redis.
set -e

if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi

if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . ! -user redis -exec chown redis {} +
        # By its path: Debian's busybox prefers its own applet to programs of that name.
        exec /usr/bin/setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
    fi
    # The official image is built without protected mode, which refuses
    # connections that do not come from the loopback address.
    exec "$@" --protected-mode no
fi

exec "$@"
