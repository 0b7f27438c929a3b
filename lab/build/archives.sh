#!/bin/sh
# archives.sh PACKAGES...: fetches Debian's packages once, for every image that is being built, and serves them by HTTP.
#
# Each argument is the packages of one `apt-add`, those needed first come first. This runs in a container of the base
# image, which has apt and Perl. What it serves, on port 8000, is a small Debian repository: Release, Packages and the
# archives ("flat", sources.list(5)). apt checks them against Debian's keys on their way in here, and each archive
# against Packages once more on its way into an image.
#
# Nothing is fetched before somebody asks: where each step comes from the builder's cache, nobody does. An archive that
# is still on its way is waited for. What could not be fetched is answered with 404, and then `apt-add` asks Debian.
set -eu
folder=/tmp/archives
mkdir -p $folder/cache $folder/lists
cd $folder
mkfifo asked

# As root without a single capability: so neither apt's own user nor its own folders.
apt() {
    tool=$1
    shift
    "apt-$tool" -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Languages=none \
        -o Dir::State::Lists=$folder/lists -o Dir::Cache=$folder/cache -o Dir::Cache::Archives=$folder "$@"
}

install() { apt get install -qqy --no-install-recommends "$@"; }

# Of each package that installing these would fetch, the record in Debian's lists, with the place that it has here.
records() {
    # The archive's name is NAME_VERSION_ARCHITECTURE.deb, with %3a for the version's colon.
    uris=$(install --print-uris "$@")
    # shellcheck disable=SC2046  # one word a package
    apt cache show $(echo "$uris" | sed -n "s/^'[^']*' \([^_]*\)_\([^_]*\)_.*/\1=\2/; T; s/%3a/:/; p") |
    perl -00 -ne 'next if $seen{$_}++;
        my $record = $_;
        my ($name, $version, $architecture) = map { $record =~ /^$_: (.*)/m } "Package", "Version", "Architecture";
        $version =~ s/:/%3a/;
        s/^Filename: .*/Filename: .\/${name}_${version}_$architecture.deb/m;
        print'
}

fetch() {
    echo "fetching Debian's lists of packages"
    apt get update -qq
    # shellcheck disable=SC2048,SC2086  # one word a package
    records $* >Packages.new
    sum=$(sha256sum <Packages.new)
    printf 'SHA256:\n %s %s Packages\n' "${sum%% *}" "$(wc -c <Packages.new)" >Release.new
    mv Packages.new Packages
    mv Release.new Release
    for packages in "$1" "$2" "$*"; do # all at once is quickest, but the first ones are waited for by all the others
        echo "fetching $packages"
        # shellcheck disable=SC2086
        install --download-only $packages
    done
    echo "all packages are fetched"
}

{
    read -r _ <asked
    fetch "$@" &
    wait $! || echo "the packages cannot be fetched for all images together: each fetches its own"
    touch over
} 2>&1 &

exec perl -MIO::Socket::INET -e '
    my $listener = IO::Socket::INET->new(LocalPort => 8000, Listen => 100, ReuseAddr => 1) or die "port 8000: $!\n";
    $SIG{CHLD} = "IGNORE";
    $SIG{PIPE} = "IGNORE";
    for (my $first = 1; ; ) {
        my $client = $listener->accept or next;
        my ($name) = (<$client> // next) =~ m{^GET \S*/(\S+)};    # apt-add only looks whether somebody listens
        while (<$client> =~ /\S/) { }
        if ($first) { open my $asked, ">", "asked"; print $asked "\n"; $first = 0 }
        next if fork;
        $name =~ s/%([0-9a-f]{2})/chr hex $1/gie;
        if ($name =~ /^(Release|Packages|[\w.+~%-]+\.deb)$/) {
            select undef, undef, undef, 0.02 until -e $name or -e "over";
        }
        if (open my $file, "<", $name) {
            print $client "HTTP/1.0 200 OK\r\nContent-Length: ", -s $file, "\r\n\r\n";
            local $/ = \65536;
            print $client $_ while <$file>;
        } else {
            print $client "HTTP/1.0 404 Not here\r\nContent-Length: 0\r\n\r\n";
        }
        exit;
    }'
