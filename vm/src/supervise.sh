# supervise.sh DIR QEMU ARGS...: runs QEMU until standard input says a word or ends.
#
# Standard input is a pipe that only the test process holds. However that process ends, the pipe closes,
# QEMU is killed and its folder removed. "keep" kills QEMU and leaves the folder (a power cut). Should this
# shell be killed, QEMU goes with it (pdeathsig; the shell has one thread). Standard output is QEMU's
# alone: its end of file tells the test process that QEMU is gone.
dir=$1
shift
setpriv --pdeathsig KILL -- "$@" < /dev/null &
qemu=$!
exec >&-
word=
IFS= read -r word
kill -KILL "$qemu" 2> /dev/null
wait "$qemu" 2> /dev/null
[ "$word" = keep ] || rm -rf -- "$dir"
