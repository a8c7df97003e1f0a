# Looks all the while, until /run/enough is there, whether a raid set is called healthy while a leg of it is not in
# sync. Fails at one that is called healthy again before all of its legs are in sync, or that still is so many looks
# after one of them was lost. `sampled.pl SET` looks once, at the legs alone: 0 when they are in sync.
use strict;
use warnings;
use Fcntl;

# A loss is shown when its event has been read; nobody asks so often in that time.
my $LOOKS   = 20;
my $ENOUGH  = '/run/enough';
my $PAGE    = 4096;
my $O_DIRECT = 0x4000;
# Offset of disk_recovery_offset in the superblock of a leg (drivers/md/dm-raid.c:dm_raid_superblock).
my $OFFSET = 32;

# The kernel reads and writes these below the page cache.
my $room = "\0" x (4 * $PAGE);
sub recovery_offset {
    my ($device) = @_;
    sysopen my $file, $device, O_RDONLY | $O_DIRECT or return;
    my $at = -unpack('J', pack('P', $room)) % $PAGE;
    my $got = sysread $file, $room, $PAGE, $at;
    return unless defined $got && $got == $PAGE;
    return substr $room, $at + $OFFSET, 8;
}

# What of dmsetup is said of each set, by its name.
sub each_set {
    my %said;
    for (qx(dmsetup $_[0] --target raid 2>/dev/null)) {
        $said{$1} = [split ' ', $2] if /^(\S+): (\d+ \d+ raid .*)/;
    }
    return %said;
}

# Names of the sets with a leg that is not in sync, each with what was seen. A stripe has no legs that are.
sub out_of_sync {
    my %table = each_set('table');
    my %status = each_set('status --noflush');
    my %out;
    for my $set (keys %table) {
        my @words = @{ $table{$set} };
        my $letters = $status{$set} && $status{$set}[5];
        next if $words[3] eq 'raid0' || !$letters;
        $out{$set} = "letters $letters" if $letters !~ /^A+$/;
        my $count = 5 + $words[4];
        for my $slot (0 .. $words[$count] - 1) {
            my $meta = $words[$count + 1 + 2 * $slot];
            my $offset = $meta eq '-' ? undef : recovery_offset("/dev/block/$meta");
            $out{$set} //= "leg $slot" if !defined $offset || $offset ne "\xff" x 8;
        }
    }
    return %out;
}

if (@ARGV) {
    my %out = out_of_sync();
    print "$ARGV[0]: $out{$ARGV[0]}\n" if $out{$ARGV[0]};
    exit($out{$ARGV[0]} ? 1 : 0);
}

$| = 1;
unlink $ENOUGH;
print "sampling\n";
my ($moments, $longest, %told, %looks) = (0, 0);
until (-e $ENOUGH) {
    my %before = out_of_sync();
    for (keys %told) { delete $told{$_} unless $before{$_} }
    for (keys %looks) { delete $looks{$_} unless $before{$_} }
    if (!%before) {
        # Nothing tells of a leg that is lost but looking again.
        select undef, undef, undef, 0.05;
        next;
    }
    my %shown;
    for my $set (keys %before) {
        $shown{$set} = $1 if qx(lunctl show $set --json 2>/dev/null | jq -r .health) =~ /^(VDS_H_\w+)$/;
    }
    my %after = out_of_sync();
    # In sync by now, or taken down: what was shown may have been true. No answer is no lie.
    for my $set (grep { $after{$_} && $shown{$_} } keys %before) {
        $moments++;
        if ($shown{$set} ne 'VDS_H_HEALTHY') {
            $told{$set} = 1;
            next;
        }
        my $looks = ++$looks{$set};
        $longest = $looks if $looks > $longest;
        if ($told{$set} || $looks > $LOOKS) {
            print "$set is called healthy, ", $told{$set} ? 'again' : "$looks looks after a loss",
                ": $after{$set}\n", qx(dmsetup status --noflush $set; dmsetup table $set);
            exit 1;
        }
    }
}
print "$moments moments with a leg out of sync; healthy for $longest looks at most after a loss\n";
