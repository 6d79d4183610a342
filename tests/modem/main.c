/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* virtual-modem: a Quectel modem without hardware (README.md beside this file). */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gadget.h"
#include "layout.h"
#include "modem.h"
#include "trace.h"
#include "usbip.h"

enum { IN_POSTED_MAX = 1024 * 1024 };
enum { EXIT_USAGE = 2, DEFAULT_BLOCKS = 2048, PAGES_PER_BLOCK = 64, PAGE_4K = 4096, PAGE_2K = 2048 };
enum option_id {
    OPTION_SOCKET = 256,
    OPTION_GADGET,
    OPTION_USBIP,
    OPTION_FLASH,
    OPTION_NEW,
    OPTION_MAKE,
    OPTION_BLOCKS,
    OPTION_TRACE,
    OPTION_SCENARIO,
    OPTION_SET,
    OPTION_FD,
    OPTION_SETTINGS,
    OPTION_HELP
};

struct options {
    const char *socket, *gadget, *usbip, *flash, *trace;
    bool make, fresh;
    uint32_t blocks;
    int fd;
};

static const char usage[] =
    "virtual-modem --flash FILE {--socket PATH | --gadget UDC | --usbip PORT | --fd N} [OPTION…]\n"
    "virtual-modem --flash FILE --make-flash [OPTION…]\n\n"
    "  --socket PATH      the service's socket of virtual modems\n"
    "  --gadget UDC       USB, through FunctionFS on a controller of /sys/class/udc\n"
    "  --usbip PORT       USB, by a port of vhci_hcd.0 (a path: a socket that stands for it)\n"
    "  --fd N             a connected SEQPACKET socket for the first appearance\n"
    "  --flash FILE       the flash\n"
    "  --new              makes it first\n"
    "  --make-flash       makes it and ends\n"
    "  --blocks N         erase blocks of a new flash (default 2048)\n"
    "  --trace FILE       events with their time; - for standard error\n"
    "  --scenario FILE    settings, one key=value a line\n"
    "  --set KEY=VALUE    one setting; may be repeated, the last one counts\n"
    "  --settings         prints all settings: name, default, choices, meaning\n";

static bool complain(const char *what)
{
    fprintf(stderr, "virtual-modem: %s\n", what);
    return false;
}

static bool parse_options(int argc, char **argv, struct options *o, struct scenario *s)
{
    static const struct option long_options[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"gadget", required_argument, NULL, OPTION_GADGET},
        {"usbip", required_argument, NULL, OPTION_USBIP},
        {"flash", required_argument, NULL, OPTION_FLASH},
        {"new", no_argument, NULL, OPTION_NEW},
        {"make-flash", no_argument, NULL, OPTION_MAKE},
        {"blocks", required_argument, NULL, OPTION_BLOCKS},
        {"trace", required_argument, NULL, OPTION_TRACE},
        {"scenario", required_argument, NULL, OPTION_SCENARIO},
        {"set", required_argument, NULL, OPTION_SET},
        {"fd", required_argument, NULL, OPTION_FD},
        {"settings", no_argument, NULL, OPTION_SETTINGS},
        {"help", no_argument, NULL, OPTION_HELP},
        {0},
    };
    char error[512];
    int c;

    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (c) {
        case OPTION_SOCKET:
            o->socket = optarg;
            break;
        case OPTION_GADGET:
            o->gadget = optarg;
            break;
        case OPTION_USBIP:
            o->usbip = optarg;
            break;
        case OPTION_FLASH:
            o->flash = optarg;
            break;
        case OPTION_NEW:
            o->fresh = true;
            break;
        case OPTION_MAKE:
            o->make = o->fresh = true;
            break;
        case OPTION_BLOCKS:
            o->blocks = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case OPTION_TRACE:
            o->trace = optarg;
            break;
        case OPTION_SCENARIO:
            if (!scenario_load(s, optarg, error, sizeof(error)))
                return complain(error);
            break;
        case OPTION_SET:
            if (!scenario_set(s, optarg, error, sizeof(error)))
                return complain(error);
            break;
        case OPTION_FD:
            o->fd = atoi(optarg);
            break;
        case OPTION_SETTINGS:
            scenario_print(stdout);
            exit(0);
        case OPTION_HELP:
            fputs(usage, stdout);
            exit(0);
        default:
            return false;
        }
    }
    if (optind < argc)
        return complain("there are no arguments, only options");
    if (!o->flash)
        return complain("--flash is missing");
    if (!o->make && !o->socket && !o->gadget && !o->usbip && o->fd < 0)
        return complain("--socket, --gadget, --usbip or --fd is missing");
    if (!!o->socket + !!o->gadget + !!o->usbip > 1)
        return complain("--socket, --gadget and --usbip: one of them");
    if (o->fresh && (o->blocks < LAYOUT_BLOCKS_MIN || o->blocks > 65536 / 4))
        return complain("--blocks: 24 to 16384");
    return true;
}

/* A new flash is filled by a chip that does not fail yet; only its bad blocks are there from the factory. */
static int make_flash(const struct options *o, const struct scenario *s)
{
    struct scenario *healthy = malloc(sizeof(*healthy));
    struct nand n = {0};
    int r = -ENOMEM;

    if (!healthy)
        return r;
    scenario_defaults(healthy);
    healthy->bad = s->bad;
    r = nand_create(o->flash, s->geometry == GEOMETRY_2K ? PAGE_2K : PAGE_4K, PAGES_PER_BLOCK, o->blocks);
    if (r == 0)
        r = nand_open(&n, o->flash, healthy);
    if (r == 0 && !layout_fill(&n, s))
        r = -ENOSPC;
    nand_close(&n);
    free(healthy);
    return r;
}

/* Lives at the end of a socket: qdld's, or that of a USB port of its own. */
static int live(const struct options *o, struct modem *m)
{
    const char *usb = o->gadget ?: o->usbip;
    struct port port;
    struct front_address host = {0};
    int r = 0;

    if (o->socket && !front_address_of_path(&host, o->socket))
        return -ENAMETOOLONG;
    if (usb) {
        r = port_start(&port, o->gadget ? gadget_serve : usbip_serve, usb);
        if (r < 0)
            return r;
        host = (struct front_address){port.address, port.address_length};
    }
    front_init(&m->front, &host, o->fd, &m->faults);
    m->front.usb = usb;
    m->front.in_posted =
        (int)(m->scenario->in_posted < IN_POSTED_MAX ? m->scenario->in_posted : IN_POSTED_MAX);
    m->front.host_wait_us = m->scenario->host_wait_ms < 0 ? -1 : m->scenario->host_wait_ms * 1000;
    r = front_catch_signals();
    if (r == 0)
        r = modem_run(m);
    trace("end violations=%u", trace_violations());
    front_free(&m->front);
    if (usb && port_stop(&port) != 0 && r == 0)
        r = -EIO;
    return r;
}

static int run(const struct options *o, struct scenario *s)
{
    struct modem m = {.scenario = s};
    struct nand n = {0};
    char error[512];
    int r;

    if (!faults_parse(&m.faults, s, error, sizeof(error))) {
        complain(error);
        return EXIT_USAGE;
    }
    r = o->trace ? trace_open(o->trace) : 0;
    if (r == 0 && o->fresh)
        r = make_flash(o, s);
    if (r == 0 && !o->make)
        r = nand_open(&n, o->flash, s);
    if (r == 0 && !o->make) {
        m.nand = &n;
        r = live(o, &m);
        image_reset(&m.image);
    }
    nand_close(&n);
    trace_close();
    if (r < 0)
        complain(strerror(-r));
    return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.fd = -1, .blocks = DEFAULT_BLOCKS};
    struct scenario *s = malloc(sizeof(*s));
    int r = EXIT_USAGE;

    if (!s)
        return 1;
    scenario_defaults(s);
    if (parse_options(argc, argv, &o, s))
        r = run(&o, s);
    else
        fputs(usage, stderr);
    free(s);
    return r;
}
