# shellcheck shell=bash disable=SC1090
# bash completion of lunctl: the program itself knows its verbs, and asks the service for names.
source <(LUNCTL_COMPLETE=bash lunctl)
