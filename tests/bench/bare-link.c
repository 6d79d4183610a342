/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bare-link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/usb/ch9.h>
#include <linux/usbdevice_fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define USBFS "/dev/bus/usb/"

enum { WAIT_MSEC = 60000, USB_PACKET = 512 };

static int modem = -1;
static bool is_usb;
static unsigned char pipe_in, pipe_out;

void link_fail(const char *what)
{
    fprintf(stderr, "bare-writer: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- usbfs ---- */

/* The node gives device and configuration descriptors to whoever reads it. The claimed interface. */
static unsigned find_pipes(void)
{
    unsigned char d[4096];
    ssize_t size = read(modem, d, sizeof(d));
    unsigned interface = 0;
    for (ssize_t i = 0; i + 2 <= size && d[i] >= 2 && i + d[i] <= size; i += d[i]) {
        if (d[i + 1] == USB_DT_INTERFACE && d[i] >= USB_DT_INTERFACE_SIZE && !(pipe_in && pipe_out)) {
            interface = d[i + 2];
            pipe_in = pipe_out = 0;
        } else if (d[i + 1] == USB_DT_ENDPOINT && d[i] >= USB_DT_ENDPOINT_SIZE &&
                   (d[i + 3] & USB_ENDPOINT_XFERTYPE_MASK) == USB_ENDPOINT_XFER_BULK &&
                   !(pipe_in && pipe_out)) {
            *(d[i + 2] & USB_DIR_IN ? &pipe_in : &pipe_out) = d[i + 2];
        }
    }
    errno = ENODEV;
    if (!pipe_in || !pipe_out)
        link_fail("endpoints");
    return interface;
}

static void open_usb(const char *path)
{
    modem = open(path, O_RDWR | O_CLOEXEC);
    if (modem < 0)
        link_fail(path);
    unsigned interface = find_pipes();
    struct usbdevfs_ioctl away = {.ifno = (int)interface, .ioctl_code = USBDEVFS_DISCONNECT};
    if (ioctl(modem, USBDEVFS_IOCTL, &away) < 0 && errno != ENODATA)
        link_fail("disconnect");
    if (ioctl(modem, USBDEVFS_CLAIMINTERFACE, &interface) < 0)
        link_fail("claim");
    is_usb = true;
}

static size_t bulk(unsigned char pipe, void *data, size_t size)
{
    struct usbdevfs_bulktransfer t = {.ep = pipe, .len = (unsigned)size, .timeout = WAIT_MSEC, .data = data};
    int n = ioctl(modem, USBDEVFS_BULK, &t);
    if (n < 0)
        link_fail("bulk");
    return (size_t)n;
}

/* ---- the socket ---- */

static void open_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    errno = ENAMETOOLONG;
    if (strlen(path) >= sizeof(address.sun_path))
        link_fail(path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    unlink(path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0)
        link_fail(path);
    modem = accept(listener, NULL, NULL);
    char plug[2048];
    if (modem < 0 || recv(modem, plug, sizeof(plug), 0) <= 0 || send(modem, "P", 1, 0) < 0)
        link_fail("plug");
}

static void put_datagrams(const void *data, size_t size)
{
    static char packet[LINK_TRANSFER_MAX + 1];
    const char *p = data;
    do {
        size_t n = size < LINK_TRANSFER_MAX ? size : LINK_TRANSFER_MAX;
        packet[0] = 'D';
        memcpy(packet + 1, p, n);
        if (send(modem, packet, n + 1, MSG_NOSIGNAL) < 0)
            link_fail("send");
        p += n;
        size -= n;
    } while (size > 0);
}

/* The next one's data begin behind its first byte; their number. */
static size_t get_datagram(char packet[LINK_TRANSFER_MAX + 1])
{
    do {
        ssize_t n = recv(modem, packet, LINK_TRANSFER_MAX + 1, 0);
        if (n <= 0)
            link_fail("the modem went");
        if (packet[0] == 'D')
            return (size_t)n - 1;
    } while (true);
}

static size_t get_data(void *data, size_t size)
{
    char packet[LINK_TRANSFER_MAX + 1];
    size_t n = 0;
    while (n == 0)
        n = get_datagram(packet);
    n = n < size ? n : size;
    memcpy(data, packet + 1, n);
    return n;
}

/* ---- both ---- */

void link_open(const char *path)
{
    if (strncmp(path, USBFS, strlen(USBFS)) == 0)
        open_usb(path);
    else
        open_socket(path);
}

void link_put(const void *data, size_t size)
{
    if (!is_usb) {
        put_datagrams(data, size);
        return;
    }
    const char *p = data;
    do {
        size_t n = size < LINK_TRANSFER_MAX ? size : LINK_TRANSFER_MAX;
        bulk(pipe_out, (void *)p, n);
        p += n;
        size -= n;
    } while (size > 0);
}

size_t link_get(void *data, size_t size)
{
    size_t n = 0;
    if (!is_usb)
        return get_data(data, size);
    /* What is no whole number of packets would be an overflow. */
    size = size < LINK_TRANSFER_MAX ? size - size % USB_PACKET : LINK_TRANSFER_MAX;
    while (n == 0)
        n = bulk(pipe_in, data, size);
    return n;
}

void link_get_zlp(void)
{
    char packet[LINK_TRANSFER_MAX + 1];
    size_t n = is_usb ? bulk(pipe_in, packet, 0) : get_datagram(packet);
    errno = EPROTO;
    if (n > 0)
        link_fail("data in the place of a ZLP");
}
