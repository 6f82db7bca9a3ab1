# Teeworlds reads no lines from stdin, but it has a console on a TCP port. This leaves a child behind
# that hands the lines of stdin to that port (which only the container's own loopback reaches, with a
# password that nobody sees), and then becomes the game, which so is pid 1. Answers need no way back:
# the game prints them to its log as well.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my $port = 8303;
open my $random, '<:raw', '/dev/urandom' or die "urandom: $!";
read($random, my $bytes, 12) == 12 or die "urandom: $!";
# The game cuts passwords after 31 characters.
my $password = unpack 'H*', $bytes;

my $child = fork // die "fork: $!";
if ($child) {
    open STDIN, '<', '/dev/null' or die "null: $!";
    exec @ARGV, "ec_bindaddr 127.0.0.1", "ec_port $port", "ec_password $password";
    die "exec $ARGV[0]: $!";
}

# Connects anew where the game has dropped us; a game that is gone takes the whole container along.
sub connected {
    while (1) {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
        if ($socket) {
            $socket->blocking(1);
            return $socket if $socket->syswrite("$password\n");
        }
        select undef, undef, undef, 0.2;
    }
}

my $game = connected();
my $ready = IO::Select->new(\*STDIN, $game);
while (1) {
    for my $from ($ready->can_read) {
        my $size = sysread $from, my $data, 4096;
        if ($from != $game) {
            exit unless $size;
            $game->syswrite($data);
        } elsif (!$size) {
            $ready->remove($game);
            $game = connected();
            $ready->add($game);
        }
    }
}
