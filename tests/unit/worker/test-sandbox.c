/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Each test locks a child of its own in; what the child finds comes back as its exit status. */

#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/io.h"
#include "protocol/xml.h"
#include "transport/transport.h"
#include "worker/sandbox.h"

enum { FINE = 0, NOT_LOCKED = 90, MISSING_LAYER = 91 };

static const struct sandbox_limits limits = {.memory = 64 << 20, .file_size = 1 << 20};

static bool on_debian_12;

static int in_child(int (*check)(void), bool lock)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const char *missing = NULL;
        if (lock && sandbox_enter(&limits, &missing) < 0)
            _exit(NOT_LOCKED);
        if (missing)
            _exit(MISSING_LAYER);
        _exit(check());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            static const char untrue[] = "not true: " #condition "\n";                                       \
            (void)!write(STDERR_FILENO, untrue, sizeof(untrue) - 1);                                         \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)
#define EXPECT_DENIED(call) EXPECT((call) == -1 && errno == EACCES)

static int opens_nothing(void)
{
    struct stat st;
    EXPECT_DENIED(open("/etc/passwd", O_RDONLY));
    EXPECT_DENIED(open("/dev/null", O_RDWR));
    EXPECT_DENIED(open("/tmp/x", O_RDWR | O_CREAT, 0600));
    EXPECT_DENIED(open("/tmp", O_TMPFILE | O_RDWR, 0600));
    EXPECT_DENIED(unlink("/tmp/x"));
    EXPECT_DENIED(mkdir("/tmp/x", 0700));
    EXPECT_DENIED(stat("/etc/passwd", &st));
    EXPECT_DENIED(access("/etc/passwd", R_OK));
    return FINE;
}

static int starts_nothing(void)
{
    char *const argv[] = {(char[]){"true"}, NULL};
    EXPECT_DENIED(execv("/bin/true", argv));
    EXPECT_DENIED(fork());
    EXPECT_DENIED(kill(getppid(), 0));
    /* The service and the other workers run as the same user. */
    EXPECT_DENIED((int)syscall(SYS_tgkill, getppid(), getppid(), 0));
    EXPECT((int)syscall(SYS_tgkill, getpid(), getpid(), 0) == 0);
    EXPECT_DENIED(fcntl(STDERR_FILENO, F_SETOWN, getppid()));
    EXPECT_DENIED(fcntl(STDERR_FILENO, F_SETSIG, SIGKILL));
    EXPECT_DENIED((int)ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    EXPECT_DENIED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    EXPECT(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
           errno == EACCES);
    return FINE;
}

static int connects_nothing(void)
{
    EXPECT_DENIED(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_DENIED(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_DENIED(socket(AF_NETLINK, SOCK_RAW, 0));
    int pair[2];
    EXPECT_DENIED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    return FINE;
}

static int given[2], given_file, given_device, given_room;

static int uses_what_it_was_given(void)
{
    char c = 'x';
    struct stat st;
    struct usbdevfs_getdriver driver = {0};
    struct usbdevfs_ctrltransfer control = {0};
    unsigned interface = 0;
    struct winsize size;

    EXPECT(send(given[0], &c, 1, MSG_NOSIGNAL) == 1);
    struct pollfd p = {.fd = given[1], .events = POLLIN};
    EXPECT(poll(&p, 1, 1000) == 1);
    EXPECT(recv(given[1], &c, 1, 0) == 1);
    EXPECT(shutdown(given[1], SHUT_RD) == 0);

    EXPECT(io_pwrite_full(given_file, "abc", 3, 0) == 0);
    EXPECT(ftruncate(given_file, 10) == 0 && fdatasync(given_file) == 0);
    EXPECT(fstat(given_file, &st) == 0 && st.st_size == 10);

    /* A usbfs request reaches the driver (which here is none), another one does not. */
    EXPECT(ioctl(given_device, USBDEVFS_GETDRIVER, &driver) == -1 && errno == ENOTTY);
    EXPECT(ioctl(given_device, USBDEVFS_CLAIMINTERFACE, &interface) == -1 && errno == ENOTTY);
    EXPECT_DENIED(ioctl(given_device, TIOCGWINSZ, &size));
    /* Nor does what libusb would ask a modem before anything else. */
    EXPECT_DENIED(ioctl(given_device, USBDEVFS_CONTROL, &control));
    return FINE;
}

static int has_memory(void)
{
    void *big = malloc(16 << 20);
    EXPECT(big);
    memset(big, 1, 16 << 20);
    free(big);
    void *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(map != MAP_FAILED);
    /* None that no limit counts; one that was made before can be filled and sealed. */
    EXPECT_DENIED(memfd_create("test", 0));
    EXPECT(io_memfd_fill(given_room, "12345", 5) == -EFBIG);
    EXPECT(io_memfd_fill(given_room, "data", 4) == 0 && io_memfd_check(given_room, 4) == 0);
    uint8_t sha[SHA256_SIZE];
    EXPECT(digest_sha256("abc", 3, sha) == 0 && sha[0] == 0xba);
    return FINE;
}

/* libxml2 reads a programmer's words, and a document that wants a file gets none. */
static int reads_xml(void)
{
    static const char text[] =
        "<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data><response value=\"ACK\" /></data>";
    struct xml_splitter *s = xml_splitter_new();
    struct xml_document *d = NULL;
    size_t garbage;
    EXPECT(s && xml_splitter_feed(s, text, sizeof(text) - 1) == 0);
    EXPECT(xml_splitter_next(s, &d, &garbage) == 1);
    EXPECT(d->kind == XML_RESPONSE && strcmp(xml_attribute(d, "value"), "ACK") == 0);
    xml_document_free(d);
    xml_splitter_free(s);
    return FINE;
}

/* libusb comes as far as without a lock: to the descriptor, which here is no modem. */
static char without_lock[ERROR_MESSAGE_SIZE];

static int reaches_usbfs(void)
{
    struct transport *t;
    struct error e = {0};
    EXPECT(transport_open(dup(given_device), TRANSPORT_EDL, &t, &e) < 0);
    EXPECT(strcmp(e.message, without_lock) == 0);
    return FINE;
}

static int is_limited(void)
{
#ifndef __SANITIZE_ADDRESS__
    EXPECT(mmap(NULL, limits.memory + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED);
#endif
#ifndef __SANITIZE_ADDRESS__
    /* Nor by what counts as no data. */
    EXPECT(mmap(NULL, limits.memory + (128 << 20), PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED);
#endif
    struct rlimit l;
    EXPECT(getrlimit(RLIMIT_FSIZE, &l) == 0 && l.rlim_max == limits.file_size);
    EXPECT(getrlimit(RLIMIT_CORE, &l) == 0 && l.rlim_max == 0);
    return FINE;
}

static int landlock_alone(void)
{
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(open("/etc/passwd", O_RDONLY) >= 0);
    EXPECT(sandbox_landlock() == 0);
    EXPECT_DENIED(open("/etc/passwd", O_RDONLY));
    EXPECT_DENIED(open("/tmp", O_RDONLY | O_DIRECTORY));
    EXPECT_DENIED(mkdir("/tmp/qdld-test-landlock", 0700));
    char *const argv[] = {(char[]){"true"}, NULL};
    EXPECT_DENIED(execv("/bin/true", argv));
    /* Not a file system right: seccomp's part. */
    EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    return FINE;
}

static int seccomp_alone(void)
{
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(sandbox_seccomp() == 0);
    EXPECT_DENIED(open("/etc/passwd", O_RDONLY));
    EXPECT_DENIED(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT(getpid() > 0);
    return FINE;
}

static int without_no_new_privs(void)
{
    /* Unprivileged, the kernel takes no rules from a process that could gain privileges by exec (libseccomp
     * sets it by itself). */
    EXPECT(getuid() != 0 || setuid(65534) == 0);
    EXPECT(sandbox_landlock() == -EPERM);
    return FINE;
}

/* The kernel refuses one of the calls by which a layer is put on. */
static int enter_without(int call, const char *layer)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    const char *missing = NULL;
    EXPECT(filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0) == 0);
    EXPECT(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl), 1,
                            SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP)) == 0);
    EXPECT(seccomp_load(filter) == 0);
    int r = sandbox_enter(&limits, &missing);
    EXPECT(missing && strcmp(missing, layer) == 0);
    EXPECT(on_debian_12 ? r < 0 : r == 0);
    return FINE;
}

static int enter_without_landlock(void)
{
    return enter_without(SCMP_SYS(landlock_restrict_self), "landlock");
}

static int enter_without_seccomp(void)
{
    return enter_without(SCMP_SYS(seccomp), "seccomp");
}

static void test_files(void **state)
{
    (void)state;
    assert_int_equal(in_child(opens_nothing, true), FINE);
}

static void test_processes(void **state)
{
    (void)state;
    assert_int_equal(in_child(starts_nothing, true), FINE);
}

static void test_sockets(void **state)
{
    (void)state;
    assert_int_equal(in_child(connects_nothing, true), FINE);
}

static void test_given(void **state)
{
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, given), 0);
    given_file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    given_device = open("/dev/null", O_RDWR);
    assert_true(given_file >= 0 && given_device >= 0);
    assert_int_equal(in_child(uses_what_it_was_given, true), FINE);
    close(given[0]);
    close(given[1]);
    close(given_file);
    close(given_device);
}

static void test_memory(void **state)
{
    (void)state;
    assert_int_equal(digest_init(), 0);
    given_room = io_memfd_room("test", 4);
    assert_true(given_room >= 0);
    assert_int_equal(in_child(has_memory, true), FINE);
    close(given_room);
}

static void test_libraries(void **state)
{
    (void)state;
    struct transport *t;
    struct error e = {0};
    given_device = open("/dev/null", O_RDWR);
    assert_true(transport_open(dup(given_device), TRANSPORT_EDL, &t, &e) < 0);
    strcpy(without_lock, e.message);
    assert_non_null(strstr(without_lock, "descriptor"));
    assert_int_equal(in_child(reaches_usbfs, true), FINE);
    close(given_device);
    assert_int_equal(in_child(reads_xml, true), FINE);
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(in_child(is_limited, true), FINE);
}

static void test_layers(void **state)
{
    (void)state;
    assert_int_equal(in_child(landlock_alone, false), FINE);
    assert_int_equal(in_child(seccomp_alone, false), FINE);
    assert_int_equal(in_child(without_no_new_privs, false), FINE);
}

/* Each is put on: one that is missing is an error here, and is named elsewhere. */
static void test_missing_layer(void **state)
{
    (void)state;
    _cleanup_close_ int fd = open("/etc/os-release", O_RDONLY | O_CLOEXEC);
    _cleanup_free_ char *text = NULL;
    on_debian_12 = fd >= 0 && io_read_file(fd, 65536, &text, NULL) == 0 && sandbox_is_strict(text);
    assert_int_equal(in_child(enter_without_landlock, false), FINE);
    assert_int_equal(in_child(enter_without_seccomp, false), FINE);
}

static void test_strict(void **state)
{
    (void)state;
    assert_true(sandbox_is_strict("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"));
    assert_true(sandbox_is_strict("ID=debian\nVERSION_ID=\"12\""));
    assert_false(sandbox_is_strict("ID=debian\nVERSION_ID=\"13\"\n"));
    assert_false(sandbox_is_strict("ID=ubuntu\nVERSION_ID=\"12\"\n"));
    assert_false(sandbox_is_strict("ID_LIKE=debian\nXVERSION_ID=\"12\"\n"));
    assert_false(sandbox_is_strict(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),  cmocka_unit_test(test_processes), cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_given),  cmocka_unit_test(test_memory),    cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_layers),    cmocka_unit_test(test_missing_layer),
        cmocka_unit_test(test_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
