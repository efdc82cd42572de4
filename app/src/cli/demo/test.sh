#!/bin/sh
set -eu
sh build.sh > /dev/null
case "$1" in
unit) test "$(sh out/hello)" = "Hello, world" ;;
greeting) test "$(sh out/hello "$2")" = "$2, world" ;;
esac
echo "$1: passed"
