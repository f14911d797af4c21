# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# quote WORD ...: the words as one line that a shell reads back unchanged. Works in bash 3.2 (macOS) too.
quote() {
  local word mark="'" escaped="'\\''" line=""
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@%+,-]*) word="'${word//$mark/$escaped}'" ;;
    esac
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}
